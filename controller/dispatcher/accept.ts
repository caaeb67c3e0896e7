/** A client's request with `Prefer: respond-async`: as an event that is durable before the client is told so. */
import { createHash } from 'node:crypto';
import { FnError } from '#contract/errors.ts';
import { MAX_EVENT_BYTES } from '#contract/events.ts';
import type { EventRequest, GatewayEventMessage } from '#contract/events-link.ts';
import { decodeBody } from '#kit/event-body.ts';
import { newEventId } from '#kit/ids.ts';
import type { NewEvent } from '../store/events.ts';
import { encodeHeaderValue } from './cloudevents.ts';
import type { FunctionTable } from './functions.ts';
import { headerOf, pickHeaders } from './headers.ts';
import type { Intake } from './intake.ts';
import { functionLane } from './lane.ts';
import { encodePayload } from './payload.ts';

/** An Idempotency-Key is known for so long at least, ms: clients repeat what they lost the answer of for hours. */
const MIN_DEDUP_MS = 86_400_000;

export type Accept = Extract<GatewayEventMessage, { type: 'accept' }>;

/** Who asks, as far as the platform can tell: what one is answered is not for another who guessed his key. */
const CREDENTIALS = ['authorization', 'cookie'];

/** What a request with the same Idempotency-Key must be the same in. */
export function fingerprintOf({ method, path, headers }: EventRequest, body: Uint8Array): string {
  const hash = createHash('sha256');
  const same = ['content-type', ...CREDENTIALS].map((name) => headerOf(headers, name) ?? '');
  for (const part of [method, path, ...same]) hash.update(`${part.length}:${part}`);
  return hash.update(body).digest('base64url');
}

/** Its headers, and CloudEvents' where the client did not send its own: then it is an event in itself, in binary or structured mode. */
function withEvent({ headers }: EventRequest, id: string, source: string, at: number, orderKey: string | null): string[] {
  const structured = headerOf(headers, 'content-type')?.toLowerCase().startsWith('application/cloudevents') ?? false;
  if (structured || headerOf(headers, 'ce-specversion') !== null) return headers;
  // Half an event is none: a second ce-id beside ours would be taken for it.
  const own = pickHeaders(headers, (name) => !name.startsWith('ce-'));
  const made = [...own, 'ce-specversion', '1.0', 'ce-id', id, 'ce-source', source, 'ce-type', 'fn.invocation'];
  made.push('ce-time', new Date(at).toISOString());
  if (orderKey !== null) made.push('ce-partitionkey', encodeHeaderValue(orderKey));
  return made;
}

/** Throws FnError as Intake.enqueue does; and body-too-large, idempotency-mismatch. */
export async function accept(
  message: Accept,
  { functions, intake, at }: { functions: FunctionTable; intake: Intake; at: number },
): Promise<{ id: string; duplicate: boolean }> {
  const { namespace, name, request, idempotencyKey, delayMs, orderKey } = message;
  const of = functions.get(namespace, name);
  if (of === null)
    throw new FnError('events-unavailable', `The dispatcher has not heard of the function ${name} yet.`, { retryAfterSeconds: 1 });
  const body = decodeBody(request.body);
  if (body.length > MAX_EVENT_BYTES) {
    const detail = `The body has ${body.length} bytes; one that is answered later may have ${MAX_EVENT_BYTES}.`;
    throw new FnError('body-too-large', detail);
  }
  const policy = functions.policy(namespace, name, null);
  const id = newEventId();
  const dueAt = at + delayMs;
  const event: NewEvent = {
    id,
    lane: functionLane(namespace, name),
    namespace,
    name,
    trigger: null,
    dedup:
      idempotencyKey === null
        ? null
        : { key: idempotencyKey, fingerprint: fingerprintOf(request, body), until: dueAt + Math.max(MIN_DEDUP_MS, policy.resultMs) },
    orderKey,
    createdAt: at,
    dueAt,
    expiresAt: dueAt + policy.maxAgeMs,
    payload: encodePayload({
      kind: 'invocation',
      revision: message.revision,
      traceparent: message.traceparent,
      method: request.method,
      path: request.path,
      headers: withEvent(request, id, `/functions/${namespace}/${name}`, at, orderKey),
      body,
    }),
  };
  const outcome = await intake.enqueue(event);
  if (outcome.outcome === 'mismatch') {
    // Not its id: who knows that may read the result, and it may be another client's.
    const detail = 'The Idempotency-Key belongs to another invocation, which asked for something else, or was asked for by another.';
    throw new FnError('idempotency-mismatch', detail);
  }
  return { id: outcome.id, duplicate: outcome.outcome === 'duplicate' };
}
