/** Which trigger a webhook is for: `/.fn/webhooks/NAME/TRIGGER`, or `/.fn/webhooks/@NS/NAME/TRIGGER`. */
import { WEBHOOKS_PATH } from '#contract/events.ts';
import { DEFAULT_NAMESPACE } from '#contract/names.ts';
import type { RouteMatch, RouteMiss, RouteTable } from './routes.ts';

export interface WebhookMatch {
  match: RouteMatch;
  trigger: string;
}

const LABEL = '[a-z0-9-]{1,63}';
const PATH = new RegExp(`^(?:@(${LABEL})/)?(${LABEL})/(${LABEL})(?:\\?|$)`);
/** The same for a function, a trigger and a path that are not there. */
const NO_TRIGGER: RouteMiss = {
  code: 'trigger-not-found',
  detail: 'there is no webhook here; they are at /.fn/webhooks/NAME/TRIGGER or /.fn/webhooks/@NAMESPACE/NAME/TRIGGER',
};

/** By the origin-form target. On a tenant's own host there are that tenant's only. */
export function findWebhook(routes: RouteTable, target: string, method: string, host: string | null): WebhookMatch | RouteMiss {
  if (method !== 'POST') return { code: 'method-not-allowed', detail: 'a webhook is sent with POST', allow: 'POST' };
  if (!routes.ready) return { code: 'not-ready', detail: 'the routes are not known yet' };
  const parts = PATH.exec(target.slice(WEBHOOKS_PATH.length));
  if (parts === null) return NO_TRIGGER;
  const [, namespace = DEFAULT_NAMESPACE, name, trigger] = parts;
  if (!routes.hostServes(host, namespace)) return NO_TRIGGER;
  const match = routes.named(namespace, name!, null, target);
  return 'code' in match ? NO_TRIGGER : { match, trigger: trigger! };
}
