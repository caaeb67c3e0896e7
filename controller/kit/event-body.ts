/** Bodies of events on the wire: text where they are UTF-8, so that they cost no Base64. */
import { isUtf8 } from 'node:buffer';
import type { WireBody } from '#contract/events-link.ts';

export function encodeBody(body: Uint8Array): WireBody {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return isUtf8(buffer) ? { text: buffer.toString('utf8') } : { base64: buffer.toString('base64') };
}

export const decodeBody = (body: WireBody): Buffer =>
  'text' in body ? Buffer.from(body.text, 'utf8') : Buffer.from(body.base64, 'base64');
