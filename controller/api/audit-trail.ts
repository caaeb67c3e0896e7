/** The audit log's view of a request: what is written, by whom, and that it is written before the answer. */
import { covers, type Principal } from '#contract/tenancy.ts';
import type { Log } from '#kit/log.ts';
import type { ApiContext } from './env.ts';
import type { Audit } from './platform.ts';
import { ClientGone, toFnError } from './problems.ts';

/** What a route's changes are called in the audit log. */
export interface AuditRule {
  /** `function.deploy`, `secret.set` */
  action: string;
  /** Name of the path's parameter that says what is changed; null: the handler says it, by note(). */
  subject: string | null;
}

/** What a handler adds to the entry of its request. Never a value of a secret, never a token. */
export interface AuditNote {
  subject?: string;
  namespace?: string;
  detail?: Record<string, unknown>;
  /** Nothing was changed: a success is not written down. */
  unchanged?: boolean;
}

/** Adds to the entry of this request; can be called again. */
export function note(c: ApiContext, more: AuditNote): void {
  c.set('note', { ...c.get('note'), ...more });
}

interface Trail {
  rule: AuditRule;
  parameters: Readonly<Record<string, unknown>>;
  audit: Audit;
  log: Log;
}

/** Runs a change and writes down how it ended, whichever way. Throws FnError store-unavailable where that cannot be written. */
export async function audited(c: ApiContext, trail: Trail, run: () => Promise<Response>): Promise<Response> {
  let response: Response;
  try {
    response = await run();
  } catch (error) {
    await record(c, trail, error instanceof ClientGone ? 'abandoned' : toFnError(error).code).catch((failure: unknown) => {
      // What is told is why the change failed; it is the first of the two that counts.
      const err = failure instanceof Error ? failure.stack : failure;
      trail.log.error({ requestId: c.env.requestId, err }, 'a failed change could not be written to the audit log');
    });
    throw error;
  }
  if (c.get('note')?.unchanged !== true) await record(c, trail, 'ok');
  return response;
}

async function record(c: ApiContext, { rule, parameters, audit }: Trail, outcome: string): Promise<void> {
  const principal: Principal = c.get('principal');
  const { subject, namespace, detail = {} } = c.get('note') ?? {};
  const named = namespace ?? parameters.namespace;
  const asked = typeof named === 'string' ? named : null;
  // Those of a namespace must not learn from their log who else there is: the platform's admins do.
  const visible = asked === null || covers(principal.namespaces, asked);
  await audit.record({
    by: { id: principal.id, name: principal.name },
    action: rule.action,
    namespace: visible ? asked : null,
    subject: subject ?? (rule.subject === null ? '' : String(parameters[rule.subject] ?? '')),
    request: c.env.requestId,
    outcome,
    detail: visible ? detail : { ...detail, namespace: asked },
  });
}
