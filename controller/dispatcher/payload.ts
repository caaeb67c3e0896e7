/** What is kept of an event: its request as it is to be delivered. The body stays bytes; the rest is JSON before it. */
import type { Destination } from '#contract/events.ts';
import type { EventKind } from '#contract/events-link.ts';

export interface EventPayload {
  kind: EventKind;
  /** Of a client's preview URL; null: as the traffic is. */
  revision: string | null;
  traceparent: string | null;
  method: string;
  path: string;
  /** Names in lower case and values, one after the other. */
  headers: string[];
  body: Buffer;
  /** Of what waits in a lane `NAMESPACE/NAME>`: where it is sent to; a function only where it was not there. References to secrets are not filled in. */
  destination?: Destination;
}

/** Length of the JSON (4 bytes, big-endian), JSON, body. */
export function encodePayload({ body, ...head }: EventPayload): Buffer {
  const json = Buffer.from(JSON.stringify(head), 'utf8');
  const payload = Buffer.allocUnsafe(4 + json.length + body.length);
  payload.writeUInt32BE(json.length, 0);
  json.copy(payload, 4);
  body.copy(payload, 4 + json.length);
  return payload;
}

/** Throws where it is not what encodePayload made. */
export function decodePayload(payload: Uint8Array): EventPayload {
  const buffer = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  const end = 4 + buffer.readUInt32BE(0);
  if (end > buffer.length) throw new RangeError('a stored event is cut off');
  const head = JSON.parse(buffer.toString('utf8', 4, end)) as Omit<EventPayload, 'body'>;
  return { ...head, body: buffer.subarray(end) };
}
