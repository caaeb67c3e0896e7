/** Entries of a stream and the messages that they are: fields as they come, or a CloudEvent in them. */
import type { OutgoingEvent, SourceMessage } from '../types.ts';
import { STRUCTURED, toSourceMessage } from '../broker-message.ts';
import { asBuffer, asList, asText } from '../redis-connection.ts';

export interface Entry {
  /** MILLISECONDS-NUMBER */
  id: string;
  fields: { name: string; value: Buffer }[];
}

const PREFIX = 'ce-';
const CONTENT_TYPE = 'content-type';
const DATA = 'data';

/** Of an answer to XREADGROUP, XAUTOCLAIM or XRANGE. Entries that were deleted meanwhile are left out. */
export function readEntries(answer: readonly unknown[]): Entry[] {
  const entries: Entry[] = [];
  for (const one of answer) {
    if (one === null) continue;
    const [id, flat] = asList(one);
    if (flat === null) continue;
    const values = asList(flat);
    const fields: Entry['fields'] = [];
    for (let index = 0; index + 1 < values.length; index += 2)
      fields.push({ name: asText(values[index]), value: asBuffer(values[index + 1]) });
    entries.push({ id: asText(id), fields });
  }
  return entries;
}

interface Of {
  /** URL of server and stream. */
  origin: string;
  /** The one that is the data; null: all of them. */
  field: string | null;
  deliveries: number;
}

/**
 * Fields `ce-…` are attributes of a CloudEvent, `content-type` is what its data is. Without them the data is `field`
 * as it is, or all fields as a JSON object; a CloudEvent in structured mode in it is read.
 */
export function toMessage({ id, fields }: Entry, { origin, field, deliveries }: Of): SourceMessage {
  const attributes: Record<string, string> = {};
  let contentType: string | null = null;
  for (const { name, value } of fields) {
    if (name.startsWith(PREFIX)) attributes[name.slice(PREFIX.length)] = value.toString('utf8');
    else if (name === CONTENT_TYPE) contentType = value.toString('utf8');
  }
  const event = attributes.specversion !== undefined || contentType?.startsWith(STRUCTURED) === true;
  const single = fields.find(({ name }) => name === (field ?? (event ? DATA : undefined)));
  const data = single?.value ?? (field !== null || event ? Buffer.alloc(0) : asObject(fields));
  const typed = contentType ?? attributes.datacontenttype ?? null;
  const message = toSourceMessage({
    id,
    source: origin,
    type: 'fn.redis-stream',
    subject: null,
    time: Number(id.split('-')[0]),
    contentType: typed ?? (single === undefined ? 'application/json' : null),
    data,
    deliveries,
    orderKey: null,
    attributes,
    untyped: typed === null,
  });
  return { ...message, orderKey: message.extensions.partitionkey ?? null };
}

/** Values that are no UTF-8 are shown as well as they can be: who has bytes names the `field` that they are in. */
const asObject = (fields: Entry['fields']): Buffer =>
  Buffer.from(JSON.stringify(Object.fromEntries(fields.map(({ name, value }) => [name, value.toString('utf8')]))));

/** Names and values of an event's entry, as toMessage reads them. */
export function toFields({ attributes, data }: OutgoingEvent): (string | Uint8Array)[] {
  const fields: (string | Uint8Array)[] = [];
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'datacontenttype') fields.push(CONTENT_TYPE, value);
    else fields.push(`${PREFIX}${name}`, value);
  }
  fields.push(DATA, data);
  return fields;
}
