/**
 * Who may use a route, enforced in one place: here. The order, after the raw path was looked at (400)
 * and the caller is known (401): the parameters of the path (422), visibility (404, as if absent),
 * scope (403), and only then the body.
 */
import { z } from 'zod';
import { type ErrorCode, FnError } from '#contract/errors.ts';
import { allows, covers, type Principal, type Scope } from '#contract/tenancy.ts';
import { type AuditRule, audited } from './audit-trail.ts';
import type { ApiContext, ApiDependencies, RouteDescription } from './env.ts';
import { checkedPath } from './input.ts';

/** What a route is about, so that what is another tenant's is answered exactly as what is not there. */
export type Absent = keyof typeof ABSENT;

export type AccessRule =
  /** The namespace is a parameter of the path. `absent`: what is missing for who may not see that namespace. */
  | { namespace: 'path'; scope: Scope; absent: Absent }
  /** It concerns the platform: tokens of some namespaces only may not. A namespace in its path is not there for who may not see it. */
  | { namespace: 'platform'; scope: Scope }
  /** It gives, and takes, what concerns the caller's namespaces only; the handler sees to it. `absent`: of its id. */
  | { namespace: 'filtered'; scope: Scope | null; absent?: Absent };

type Parameters = Readonly<Record<string, unknown>>;

const ABSENT = {
  namespace: ['namespace-not-found', ({ namespace }) => `There is no namespace ${namespace}.`],
  function: ['function-not-found', ({ namespace, name }) => `There is no function ${name} in the namespace ${namespace}.`],
  bundle: ['not-found', ({ namespace, digest }) => `There is no bundle ${digest} in the namespace ${namespace}.`],
  image: ['image-not-found', ({ namespace, image }) => `There is no image ${image} in the namespace ${namespace}.`],
  secret: ['secret-not-found', ({ namespace, name }) => `There is no secret ${name} in the namespace ${namespace}.`],
  call: ['call-not-found', ({ namespace, id }) => `There is no record of a request ${id} in the namespace ${namespace}.`],
  invocation: [
    'invocation-not-found',
    ({ namespace, name, id }) => `There is no invocation ${id} of the function ${name} in the namespace ${namespace}.`,
  ],
  'dead letter': [
    'dead-letter-not-found',
    ({ namespace, name, id }) => `There is no dead letter ${id} of the function ${name} in the namespace ${namespace}.`,
  ],
  trigger: [
    'trigger-not-found',
    ({ namespace, name, trigger }) => `The function ${name} in the namespace ${namespace} has no trigger ${trigger}.`,
  ],
  token: ['token-not-found', ({ id }) => `There is no token ${id}.`],
} as const satisfies Record<string, readonly [ErrorCode, (parameters: Parameters) => string]>;

/** The one answer for what is not there, whatever the reason. */
export function absent(what: Absent, parameters: Parameters): FnError {
  const [code, detail] = ABSENT[what];
  return new FnError(code, detail(parameters));
}

/** Throws FnError not-found of the route's kind, or forbidden. */
function authorise({ scopes, namespaces }: Principal, access: AccessRule, parameters: Parameters): void {
  const { namespace } = parameters;
  if (typeof namespace === 'string' && !covers(namespaces, namespace))
    throw absent(access.namespace === 'path' ? access.absent : 'namespace', parameters);
  if (access.namespace === 'platform' && !covers(namespaces, null))
    throw new FnError('forbidden', 'This concerns the whole platform, and the token is for some namespaces only.');
  if (access.scope !== null && !allows(scopes, access.scope))
    throw new FnError('forbidden', `This needs the scope ${access.scope}, which the token does not have.`);
}

/** What handlers throw for an absent object gets the words that an invisible one has: byte by byte the same. */
function alike(error: FnError, access: AccessRule, parameters: Parameters): FnError {
  const what = access.namespace === 'platform' ? 'namespace' : access.absent;
  return what !== undefined && ABSENT[what][0] === error.code ? absent(what, parameters) : error;
}

const NO_PARAMETERS = z.object({});

/** A handler behind the rule of its route; what changes anything is in the audit log before it is answered. */
export function guarded(
  description: RouteDescription,
  handle: (c: ApiContext) => Response | Promise<Response>,
  dependencies: Pick<ApiDependencies, 'audit' | 'log'>,
): (c: ApiContext) => Promise<Response> {
  const { access, request } = description;
  const rule: AuditRule | undefined = description.audit;
  const run = async (c: ApiContext, parameters: Parameters): Promise<Response> => {
    try {
      authorise(c.get('principal'), access, parameters);
      return await handle(c);
    } catch (error) {
      throw error instanceof FnError ? alike(error, access, parameters) : error;
    }
  };
  return async (c) => {
    const parameters: Parameters = checkedPath(c, request?.params ?? NO_PARAMETERS);
    if (rule === undefined) return run(c, parameters);
    return audited(c, { rule, parameters, ...dependencies }, () => run(c, parameters));
  };
}
