/**
 * Events as a function gets them: CloudEvents 1.0 over HTTP, one in binary mode, several in the batch format of JSON.
 */
import { isUtf8 } from 'node:buffer';
import type { EventRequest } from '#contract/events-link.ts';
import { CLOUDEVENTS_BATCH_TYPE } from '#contract/runtime.ts';
import { encodeBody } from '#kit/event-body.ts';
import type { OutgoingEvent, SourceMessage } from '../triggers/types.ts';

const bufferOf = (data: Uint8Array): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);

export const isJsonType = (contentType: string): boolean => /^[^;]*[/+]json\s*(?:;|$)/i.test(contentType);

/** The value that bytes are as JSON; undefined: they are none. */
export function parseJson(data: Uint8Array): unknown {
  try {
    return JSON.parse(bufferOf(data).toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}

/** What the broker or the sender said; else what the bytes look like: an object or list of JSON, text, or neither. null: there are none. */
export function contentTypeOf({ contentType, data }: Pick<SourceMessage, 'contentType' | 'data'>): string | null {
  // A header must not be broken by what some producer wrote.
  if (contentType !== null) return /^[\x20-\x7e]+$/.test(contentType) ? contentType : 'application/octet-stream';
  if (data.length === 0) return null;
  const first = data[0];
  if ((first === 0x7b || first === 0x5b) && parseJson(data) !== undefined) return 'application/json';
  return isUtf8(data) ? 'text/plain; charset=utf-8' : 'application/octet-stream';
}

/** All attributes of a message's event, extensions among them. `attempt`: null where it is not delivered to a function. */
export function attributesOf(message: SourceMessage, trigger: string, attempt: number | null): Record<string, string> {
  const contentType = contentTypeOf(message);
  return {
    ...message.extensions,
    specversion: '1.0',
    id: message.id,
    source: message.source,
    type: message.type,
    ...(message.subject === null ? {} : { subject: message.subject }),
    ...(message.time === null || Number.isNaN(message.time) ? {} : { time: isoTime(message.time) }),
    ...(contentType === null ? {} : { datacontenttype: contentType }),
    ...(message.orderKey === null ? {} : { partitionkey: message.orderKey }),
    trigger,
    ...(attempt === null ? {} : { attempt: String(attempt) }),
  };
}

const LATEST_MS = 8_640_000_000_000_000;
const isoTime = (ms: number): string => new Date(Math.min(LATEST_MS, Math.max(0, ms))).toISOString();

/** HTTP binding, 3.1.3.2: space, double quote, percent and all that is not printable ASCII are percent-encoded, as UTF-8. */
export const encodeHeaderValue = (value: string): string =>
  value.replaceAll(/[^\x21\x23\x24\x26-\x7e]/gu, (character) =>
    [...Buffer.from(character, 'utf8')].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  );

/** Headers of binary mode: names and values, one after the other. */
export function binaryHeaders(attributes: Readonly<Record<string, string>>): string[] {
  const headers: string[] = [];
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'datacontenttype') headers.push('content-type', value);
    else headers.push(`ce-${name}`, encodeHeaderValue(value));
  }
  return headers;
}

/** One event of a batch, as JSON. What is JSON stands in it byte by byte, so that no long number loses digits. */
export function batchItem({ attributes, data }: OutgoingEvent): string {
  const { attempt, ...texts } = attributes;
  const head = JSON.stringify({ ...texts, ...(attempt === undefined ? {} : { attempt: Number(attempt) }) }).slice(0, -1);
  if (data.length === 0) return `${head}}`;
  const bytes = bufferOf(data);
  if (!isUtf8(bytes)) return `${head},"data_base64":"${bytes.toString('base64')}"}`;
  const text = bytes.toString('utf8');
  if (!isJsonType(attributes.datacontenttype ?? '')) return `${head},"data":${JSON.stringify(text)}}`;
  if (parseJson(bytes) !== undefined) return `${head},"data":${text}}`;
  return `${head},"data_base64":"${bytes.toString('base64')}"}`;
}

/** The request of one event, in binary mode. */
export function binaryRequest(path: string, { attributes, data }: OutgoingEvent): EventRequest {
  return { method: 'POST', path, headers: binaryHeaders(attributes), body: encodeBody(data) };
}

/** The request of a batch of what batchItem made; also of one alone. */
export function batchRequest(path: string, items: readonly string[]): EventRequest {
  return { method: 'POST', path, headers: ['content-type', CLOUDEVENTS_BATCH_TYPE], body: { text: `[${items.join(',')}]` } };
}

/** As filters see it: attributes and extensions as text, and `data` parsed where it is JSON. */
export function filterView(message: SourceMessage): Record<string, unknown> {
  const contentType = contentTypeOf(message);
  const json = contentType !== null && isJsonType(contentType) ? parseJson(message.data) : undefined;
  const text = json === undefined && isUtf8(message.data) ? bufferOf(message.data).toString('utf8') : undefined;
  return {
    ...message.extensions,
    id: message.id,
    source: message.source,
    type: message.type,
    subject: message.subject,
    time: message.time === null || Number.isNaN(message.time) ? null : isoTime(message.time),
    data: json ?? text ?? null,
  };
}
