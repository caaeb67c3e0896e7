/** Events for destinations, as they are stored until they are sent. */
import type { Destination } from '#contract/events.ts';
import { newEventId } from '#kit/ids.ts';
import type { NewEvent } from '../store/events.ts';
import type { OutgoingEvent } from '../triggers/types.ts';
import { binaryHeaders } from './cloudevents.ts';
import { functionLane, sendLane } from './lane.ts';
import { type Ended, nextHops, outcomeEvent, outgoingOf } from './outcome-event.ts';
import { encodePayload } from './payload.ts';

export interface Addressed {
  namespace: string;
  /** Function whose destination it is. */
  name: string;
  destination: Destination;
  event: OutgoingEvent;
  traceparent: string | null;
  at: number;
  expiresAt: number;
  /** Whether a function of the namespace is there, by its name. */
  there: (name: string) => boolean;
}

/**
 * A function gets it as an event of its own lane; all else is sent from the lane of who addresses it. So is what is for a function
 * that is not there (yet): in a lane of its own it would be forgotten as that of one that was deleted.
 */
export function addressedEvent({ namespace, name, destination, event, traceparent, at, expiresAt, there }: Addressed): NewEvent {
  const direct = destination.type === 'function' && there(destination.name);
  const to = direct ? destination.name : name;
  return {
    id: newEventId(),
    lane: direct ? functionLane(namespace, to) : sendLane(namespace, name),
    namespace,
    name: to,
    trigger: null,
    dedup: null,
    orderKey: null,
    createdAt: at,
    dueAt: at,
    expiresAt,
    payload: encodePayload({
      kind: 'event',
      revision: null,
      traceparent,
      method: 'POST',
      path: '/',
      headers: binaryHeaders(event.attributes),
      body: Buffer.from(event.data.buffer, event.data.byteOffset, event.data.byteLength),
      ...(direct ? {} : { destination }),
    }),
  };
}

export interface Onward {
  maxAgeMs: number;
  there: Addressed['there'];
}

/** What goes to destinations when an invocation has ended. Nothing after MAX_HOPS outcomes in a row, fewer where they spread. */
export function outcomesFor(ended: Ended, destinations: readonly Destination[], { maxAgeMs, there }: Onward): NewEvent[] {
  if (destinations.length === 0) return [];
  const hops = nextHops(ended.payload, destinations.filter(({ type }) => type === 'function').length);
  if (hops === null) return [];
  const event = outcomeEvent(ended, hops);
  const { namespace, name } = ended.event;
  const { traceparent } = ended.payload;
  return destinations.map((destination) =>
    addressedEvent({ namespace, name, destination, event, traceparent, at: ended.at, expiresAt: ended.at + maxAgeMs, there }),
  );
}

/** Longest text in an extension attribute, characters. */
const MAX_TEXT = 500;

/** What a trigger brought and gives up, for the queue of dead letters that it names: the event as it came, and why it failed. */
export function deadNotice(ended: Ended, destination: Destination, { maxAgeMs, there }: Onward): NewEvent {
  const { event, payload, at } = ended;
  const { namespace, name } = event;
  const came = outgoingOf(payload);
  const attributes = {
    ...came.attributes,
    deadreason: ended.reason ?? 'attempts',
    deaderror: ended.error?.code ?? 'internal',
    deaddetail: (ended.error?.detail ?? '').slice(0, MAX_TEXT),
    deadattempts: String(ended.attempts),
    deadfunction: `${namespace}/${name}`,
  };
  const { traceparent } = payload;
  const expiresAt = at + maxAgeMs;
  return addressedEvent({ namespace, name, destination, event: { attributes, data: came.data }, traceparent, at, expiresAt, there });
}
