/** The CloudEvent that tells what became of an invocation, for its destinations. */
import { MAX_EVENT_BYTES } from '#contract/events.ts';
import type { DeadLetterView, EventError } from '#contract/events.ts';
import type { NewEvent } from '../store/events.ts';
import type { OutgoingEvent } from '../triggers/types.ts';
import { headerOf } from './headers.ts';
import type { EventPayload } from './payload.ts';
import type { Result } from './result.ts';

/**
 * An outcome that is sent to a function has an outcome itself: after so many the chain ends. One that goes to several functions
 * takes as many, so that a circle of them makes hundreds of events of one, and not 4 to the power of 16.
 */
export const MAX_HOPS = 16;
const HOPS_HEADER = 'ce-hops';

export interface Ended {
  event: NewEvent;
  payload: EventPayload;
  state: 'succeeded' | 'failed';
  /** Attempts that were made in all. */
  attempts: number;
  reason: DeadLetterView['reason'] | null;
  error: EventError | null;
  result: Result | null;
  request: string | null;
  revision: string | null;
  at: number;
}

/** How many outcomes led to one of this event that goes to so many functions; null: it is the last of its chain. */
export function nextHops({ kind, headers }: EventPayload, functions = 1): number | null {
  const hops = kind === 'event' ? Number(headerOf(headers, HOPS_HEADER) ?? 0) : 0;
  // Who writes to a broker may write this, too.
  return Number.isSafeInteger(hops) && hops >= 0 && hops < MAX_HOPS ? hops + Math.max(1, functions) : null;
}

/** A body as part of JSON: as JSON where it is, else as text, else Base64. */
function bodyField(body: Buffer, contentType: string | null): { body: unknown } | { bodyBase64: string } {
  if (body.length === 0) return { body: null };
  const text = body.toString('utf8');
  if (!Buffer.from(text, 'utf8').equals(body)) return { bodyBase64: body.toString('base64') };
  if (contentType !== null && /^application\/(?:[^;]*\+)?json\b/i.test(contentType)) {
    try {
      return { body: JSON.parse(text) as unknown };
    } catch {
      // It says that it is JSON and is not: then it is text.
    }
  }
  return { body: text };
}

/** `invocation` (what it was), `request` (what it was called with), `response` or `error`: in the spirit of Lambda's destinations. */
export function outcomeEvent(ended: Ended, hops: number): OutgoingEvent {
  const { event, payload, state, result, at } = ended;
  const { method, path, headers, body } = payload;
  const contentType = headerOf(headers, 'content-type');
  const invocation = {
    id: event.id,
    namespace: event.namespace,
    function: event.name,
    state,
    trigger: event.trigger,
    attempts: ended.attempts,
    createdAt: event.createdAt,
    finishedAt: at,
    request: ended.request,
    revision: ended.revision,
    ...(ended.reason === null ? {} : { reason: ended.reason }),
  };
  const type = result === null ? null : headerOf(result.headers, 'content-type');
  const response =
    result === null ? null : { status: result.status, contentType: type, truncated: result.truncated, ...bodyField(result.body, type) };
  const said = (request: object) => Buffer.from(JSON.stringify({ invocation, request, response, error: ended.error }), 'utf8');
  const whole = said({ method, path, contentType, ...bodyField(body, contentType) });
  return {
    attributes: {
      specversion: '1.0',
      id: `${event.id}.${state}`,
      source: `/functions/${event.namespace}/${event.name}`,
      type: `fn.invocation.${state}`,
      time: new Date(at).toISOString(),
      subject: event.id,
      datacontenttype: 'application/json',
      hops: String(hops),
    },
    // With the answer and as JSON it may be longer than an event may be: then the request is known by its id.
    data: whole.length <= MAX_EVENT_BYTES ? whole : said({ method, path, contentType, bodyOmitted: true }),
  };
}

/** The CloudEvent of a message in binary mode: the opposite of binaryHeaders in cloudevents.ts. */
export function outgoingOf({ headers, body }: Pick<EventPayload, 'headers' | 'body'>): OutgoingEvent {
  const attributes: Record<string, string> = {};
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index]!;
    const value = headers[index + 1]!;
    if (name === 'content-type') attributes['datacontenttype'] = value;
    else if (name.startsWith('ce-')) attributes[name.slice(3)] = decoded(value);
  }
  return { attributes, data: body };
}

/** A `%` that encodes nothing is itself. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
