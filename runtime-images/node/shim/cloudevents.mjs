/** CloudEvents 1.0 over HTTP: binary mode, one in the JSON format, and batches of them. */
import { isUtf8 } from 'node:buffer';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */

/**
 * As the SDKs have it: attributes and extensions side by side. `attempt` is a number; the other extensions are
 * text, which is what they are in binary mode, so that an event is the same alone and in a batch.
 * @typedef {{ specversion: string, id: string, source: string, type: string, subject?: string, time?: string,
 *   datacontenttype?: string, dataschema?: string, attempt?: number, data?: unknown, [extension: string]: unknown }} CloudEvent
 */
/** `raw`: the data as it was sent, before anything was made of it. @typedef {{ event: CloudEvent, raw: string | Uint8Array }} Received */

const BATCH_TYPE = 'application/cloudevents-batch+json';
const ONE_TYPE = 'application/cloudevents+json';
const JSON_TYPE = /^(?:application\/json|text\/json|[^;\s]+\+json)\s*(?:;|$)/i;
const TEXT_TYPE =
  /^(?:text\/|application\/(?:xml|javascript|ecmascript|x-www-form-urlencoded|graphql|x-ndjson|yaml)\b|[^;\s]+\+(?:xml|yaml)\b)/i;
/** What the specification allows; so `__proto__` is none, and neither is `data`. */
const ATTRIBUTE = /^(?!data$)[a-z0-9]+$/;
const REQUIRED = /** @type {const} */ (['id', 'source', 'type']);

/** A body that is no event: the sender's mistake, not the function's. */
export class MalformedEvent extends Error {}

/**
 * The events of a request, in their order. `batch`: they came as a batch, be it of one. Throws MalformedEvent.
 * @param {IncomingMessage} req
 * @param {Buffer} body
 * @returns {{ batch: boolean, events: Received[] }}
 */
export function parseEvents(req, body) {
  const { headers } = req;
  // Binary mode is told by its attributes: its data may well be of one of the other two types.
  if (headers['ce-specversion'] !== undefined || headers['ce-id'] !== undefined)
    return { batch: false, events: [binaryEvent(headers, body)] };
  const type = mediaType(headers['content-type']);
  if (type === ONE_TYPE) return { batch: false, events: [jsonEvent(parseJson(body), 'the event')] };
  if (type !== BATCH_TYPE) throw new MalformedEvent(`neither ce-* headers nor content-type ${BATCH_TYPE} make it an event`);
  const values = parseJson(body);
  if (!Array.isArray(values)) throw new MalformedEvent('the batch is not a JSON array');
  return { batch: true, events: values.map((value, index) => jsonEvent(value, `event ${index} of the batch`)) };
}

/** @param {string | undefined} type */
const mediaType = (type) => (type ?? '').split(';', 1)[0]?.trim().toLowerCase();

/** @param {Buffer} body @returns {unknown} */
function parseJson(body) {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new MalformedEvent(`the body is not JSON (${error instanceof Error ? error.message : 'it does not parse'})`);
  }
}

/**
 * @param {import('node:http').IncomingHttpHeaders} headers
 * @param {Buffer} body
 * @returns {Received}
 */
function binaryEvent(headers, body) {
  /** @type {Record<string, unknown>} */
  const attributes = {};
  for (const name of Object.keys(headers)) {
    if (name.startsWith('ce-') && name !== 'ce-datacontenttype') put(attributes, name.slice(3), headerValue(String(headers[name])));
  }
  if (headers['content-type'] !== undefined) put(attributes, 'datacontenttype', headers['content-type']);
  const event = complete(attributes, 'the event');
  const data = dataOf(body, event.datacontenttype);
  if (data !== undefined) event.data = data;
  return { event, raw: isUtf8(body) ? body.toString('utf8') : plain(body) };
}

/** Percent-encoded UTF-8, in quotes where the sender likes them (HTTP binding, 3.1.3.2). @param {string} value */
function headerValue(value) {
  const bare = /^".*"$/s.test(value) ? value.slice(1, -1).replaceAll(/\\(.)/gs, '$1') : value;
  if (!bare.includes('%')) return fromLatin1(bare);
  const bytes = Buffer.from(
    bare.replaceAll(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
  return bytes.toString('utf8');
}

/** Raw UTF-8 is not allowed in headers, and sent nevertheless. @param {string} text of one byte each */
function fromLatin1(text) {
  // eslint-disable-next-line no-control-regex
  if (/^[\x00-\x7f]*$/.test(text)) return text;
  const bytes = Buffer.from(text, 'latin1');
  return isUtf8(bytes) ? bytes.toString('utf8') : text;
}

/**
 * @param {unknown} value
 * @param {string} which
 * @returns {Received}
 */
function jsonEvent(value, which) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new MalformedEvent(`${which} is not an object`);
  const { data, data_base64, ...rest } = /** @type {Record<string, unknown>} */ (value);
  const base64 = data_base64 ?? undefined;
  if (data !== undefined && base64 !== undefined) throw new MalformedEvent(`${which} has both data and data_base64`);
  /** @type {Record<string, unknown>} */
  const attributes = {};
  for (const [name, given] of Object.entries(rest)) put(attributes, name, given);
  const event = complete(attributes, which);
  const type = event.datacontenttype;
  if (base64 !== undefined) {
    if (typeof base64 !== 'string') throw new MalformedEvent(`data_base64 of ${which} is not text`);
    const bytes = Buffer.from(base64, 'base64');
    event.data = dataOf(bytes, type);
    return { event, raw: isUtf8(bytes) ? bytes.toString('utf8') : plain(bytes) };
  }
  if (data === undefined) return { event, raw: '' };
  const isText = typeof data === 'string' && (type === undefined || !JSON_TYPE.test(type));
  // Text of a type that is neither text nor JSON: the bytes happened to be UTF-8. Alone they would be bytes, so they are here.
  if (!isText) event.data = data;
  else if (type === undefined) event.data = untyped(data);
  else event.data = TEXT_TYPE.test(type) ? data : plain(Buffer.from(data, 'utf8'));
  return { event, raw: isText ? data : JSON.stringify(data) };
}

/**
 * Attributes are text, whatever they were in JSON; null is as if absent.
 * @param {Record<string, unknown>} attributes
 * @param {string} name
 * @param {unknown} value
 */
function put(attributes, name, value) {
  if (!ATTRIBUTE.test(name) || value === null || value === undefined) return;
  if (name === 'attempt') attributes.attempt = Number(value) || 1;
  else attributes[name] = typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/**
 * @param {Record<string, unknown>} attributes
 * @param {string} which
 * @returns {CloudEvent}
 */
function complete(attributes, which) {
  for (const name of REQUIRED) if (!attributes[name]) throw new MalformedEvent(`${which} has no ${name}`);
  return /** @type {CloudEvent} */ ({ specversion: '1.0', ...attributes });
}

/**
 * JSON parsed where it is of that type (and is JSON), text where it is text, else bytes.
 * @param {Buffer} bytes
 * @param {string | undefined} type
 */
function dataOf(bytes, type) {
  const isText = type !== undefined && TEXT_TYPE.test(type);
  if (bytes.length === 0) return isText ? '' : undefined;
  if (!isUtf8(bytes)) return plain(bytes);
  const text = bytes.toString('utf8');
  if (type === undefined) return untyped(text);
  if (isText) return text;
  if (!JSON_TYPE.test(type)) return plain(bytes);
  try {
    return /** @type {unknown} */ (JSON.parse(text));
  } catch {
    return text; // it says that it is JSON, and is not: the function may know better
  }
}

/**
 * Many brokers tell no type (Redis, Kafka, MQTT 3): an object or a list in JSON is taken for what it looks like, all else is text.
 * @param {string} text
 */
function untyped(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return /** @type {unknown} */ (JSON.parse(text));
  } catch {
    return text;
  }
}

/** Not a Buffer, whose methods differ from those of the standard. @param {Buffer} bytes */
const plain = (bytes) => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** The event in the JSON format: what has no place in JSON is in data_base64. @param {Received} received */
export function asJson({ event }) {
  const { data, ...attributes } = event;
  if (data === undefined) return attributes;
  if (data instanceof Uint8Array)
    return { ...attributes, data_base64: Buffer.from(data.buffer, data.byteOffset, data.length).toString('base64') };
  return { ...attributes, data };
}

/** When it happened, milliseconds since 1970; now, where it does not say. @param {CloudEvent} event */
export function timeOf(event) {
  const time = Date.parse(event.time ?? '');
  return Number.isNaN(time) ? Date.now() : time;
}
