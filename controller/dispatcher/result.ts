/** What is kept of a function's answer: status, some headers, body. */
import { MAX_RESULT_BYTES } from '#contract/events.ts';
import { pickHeaders } from './headers.ts';

/** What the answer is, not how it came. */
const KEPT = new Set([
  'content-type',
  'content-encoding',
  'content-language',
  'content-disposition',
  'location',
  'etag',
  'last-modified',
  'link',
  'retry-after',
]);
/** Kept headers, names and values together, characters. */
const MAX_HEADER_LENGTH = 8_192;

export interface Result {
  status: number;
  headers: string[];
  body: Buffer;
  truncated: boolean;
}

/** As it is kept: less of its headers, and of its body as much as is kept. */
export function resultOf(answer: Result): Result {
  const headers = pickHeaders(answer.headers, (name) => KEPT.has(name));
  const length = headers.reduce((sum, text) => sum + text.length, 0);
  return {
    status: answer.status,
    headers: length <= MAX_HEADER_LENGTH ? headers : [],
    body: answer.body.subarray(0, MAX_RESULT_BYTES),
    truncated: answer.truncated || answer.body.length > MAX_RESULT_BYTES,
  };
}

/** Length of the JSON (4 bytes, big-endian), JSON, body. */
export function encodeResult({ body, ...head }: Result): Buffer {
  const json = Buffer.from(JSON.stringify(head), 'utf8');
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(json.length, 0);
  return Buffer.concat([length, json, body]);
}

/** Throws where it is not what encodeResult made. */
export function decodeResult(bytes: Uint8Array): Result {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = 4 + buffer.readUInt32BE(0);
  if (end > buffer.length) throw new RangeError('a stored result is cut off');
  return { ...(JSON.parse(buffer.toString('utf8', 4, end)) as Omit<Result, 'body'>), body: buffer.subarray(end) };
}
