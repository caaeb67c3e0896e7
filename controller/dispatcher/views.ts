/** Events and dead letters as they are shown. */
import type { DeadLetterDetail, DeadLetterView, InvocationView } from '#contract/events.ts';
import type { StoredDeadLetter, StoredEvent } from '../store/events.ts';
import { headerOf } from './headers.ts';
import { decodePayload } from './payload.ts';

const WAITS: ReadonlySet<string> = new Set(['queued', 'retrying']);

export function invocationView(stored: StoredEvent): InvocationView {
  const { event, state } = stored;
  return {
    id: event.id,
    namespace: event.namespace,
    function: event.name,
    state,
    trigger: event.trigger,
    // The store counts those that failed.
    attempts: stored.attempts + (state === 'succeeded' ? 1 : 0),
    createdAt: event.createdAt,
    dueAt: WAITS.has(state) ? event.dueAt : null,
    expiresAt: event.expiresAt,
    finishedAt: stored.finishedAt,
    orderKey: event.orderKey,
    request: stored.request,
    revision: stored.revision,
    error: stored.error,
    result: stored.resultInfo,
    keptUntil: stored.keptUntil,
  };
}

export function deadLetterView(letter: StoredDeadLetter): DeadLetterView {
  const { event } = letter;
  const { headers, body } = decodePayload(event.payload);
  return {
    id: event.id,
    namespace: event.namespace,
    function: event.name,
    trigger: event.trigger,
    message: letter.message,
    reason: letter.reason,
    error: letter.error,
    attempts: letter.attempts,
    createdAt: event.createdAt,
    deadAt: letter.deadAt,
    keptUntil: letter.keptUntil,
    event: {
      type: headerOf(headers, 'ce-type') ?? 'fn.invocation',
      source: headerOf(headers, 'ce-source') ?? `/functions/${event.namespace}/${event.name}`,
      contentType: headerOf(headers, 'content-type'),
      bytes: body.length,
    },
    request: letter.request,
  };
}

export function deadLetterDetail(letter: StoredDeadLetter): DeadLetterDetail {
  const { headers, body } = decodePayload(letter.event.payload);
  const pairs: [string, string][] = [];
  for (let index = 0; index + 1 < headers.length; index += 2) pairs.push([headers[index]!, headers[index + 1]!]);
  return { ...deadLetterView(letter), headers: pairs, body: body.toString('base64') };
}
