/**
 * CloudEvents in brokers' messages. A message that is one (binary mode: attributes in its properties; structured
 * mode: JSON) keeps its attributes; any other gets those that its broker can tell.
 */
import type { OutgoingEvent, SourceMessage } from './types.ts';

export const STRUCTURED = 'application/cloudevents+json';

/** What a broker tells of a message; CloudEvents' own attributes go before it. */
export interface Received {
  id: string;
  source: string;
  type: string;
  subject: string | null;
  time: number | null;
  contentType: string | null;
  data: Uint8Array;
  deliveries: number;
  orderKey: string | null;
  extensions?: Readonly<Record<string, string>>;
  /** Attributes of binary mode, their prefix taken off; empty: there were none. */
  attributes: Readonly<Record<string, string>>;
  /** The broker tells no content type (MQTT 3.1.1): what looks like a structured CloudEvent is one. */
  untyped?: boolean;
}

const REQUIRED = ['specversion', 'id', 'source', 'type'];
const KNOWN = new Set([...REQUIRED, 'subject', 'time', 'datacontenttype', 'data', 'data_base64']);
const isCloudEvent = (attributes: Readonly<Record<string, unknown>>): boolean =>
  REQUIRED.every((name) => typeof attributes[name] === 'string' && attributes[name] !== '');

/** Extension attributes: lower-case letters and digits, and what they say as text. */
function extensionsOf(attributes: Readonly<Record<string, unknown>>): Record<string, string> {
  const extensions: Record<string, string> = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (KNOWN.has(name) || !/^[a-z0-9]+$/.test(name)) continue;
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') extensions[name] = String(value);
  }
  return extensions;
}

const textOf = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);

/** A structured CloudEvent as its attributes and data; null: it is none. */
function readStructured(data: Uint8Array): { attributes: Record<string, unknown>; data: Uint8Array } | null {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('utf8'));
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const attributes = value as Record<string, unknown>;
  if (!isCloudEvent(attributes)) return null;
  const base64 = textOf(attributes['data_base64']);
  if (base64 !== null) return { attributes, data: Buffer.from(base64, 'base64') };
  const inner = attributes['data'];
  if (inner === undefined) return { attributes, data: new Uint8Array() };
  const contentType = textOf(attributes['datacontenttype']);
  // JSON format, 3.1: a string of another type than JSON is the data itself.
  const isText = typeof inner === 'string' && contentType !== null && !isJson(contentType);
  return { attributes: { datacontenttype: 'application/json', ...attributes }, data: Buffer.from(isText ? inner : JSON.stringify(inner)) };
}

const isJson = (contentType: string): boolean => /^[^;]*[/+]json\s*(?:;|$)/i.test(contentType);

export function toSourceMessage(received: Received): SourceMessage {
  const { untyped = false, attributes: binary, extensions = {}, ...plain } = received;
  const structured =
    received.contentType?.toLowerCase().startsWith(STRUCTURED) || (untyped && received.data[0] === 0x7b)
      ? readStructured(received.data)
      : null;
  const attributes = structured?.attributes ?? binary;
  if (!isCloudEvent(attributes)) return { ...plain, extensions };
  const time = Date.parse(textOf(attributes['time']) ?? '');
  return {
    id: String(attributes['id']),
    source: String(attributes['source']),
    type: String(attributes['type']),
    subject: textOf(attributes['subject']),
    time: Number.isNaN(time) ? received.time : time,
    contentType: textOf(attributes['datacontenttype']) ?? (structured === null ? received.contentType : null),
    data: structured?.data ?? received.data,
    extensions: { ...extensions, ...extensionsOf(attributes) },
    deliveries: received.deliveries,
    orderKey: received.orderKey,
  };
}

/** One CloudEvent in JSON, for a broker whose messages have no properties. */
export function toStructured({ attributes, data }: OutgoingEvent): Buffer {
  const event: Record<string, unknown> = { ...attributes };
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const contentType = attributes['datacontenttype'] ?? 'application/json';
  if (isJson(contentType)) {
    const text = bytes.toString('utf8');
    try {
      JSON.parse(text);
      // As it is: a number with many digits must not lose some.
      return Buffer.from(`${JSON.stringify(event).slice(0, -1)},"data":${text}}`);
    } catch {
      // It says that it is JSON, and is not: bytes then.
    }
  }
  event['data_base64'] = bytes.toString('base64');
  return Buffer.from(JSON.stringify(event));
}
