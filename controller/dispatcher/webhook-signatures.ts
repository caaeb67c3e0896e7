/** Whether a webhook is from whom it says: signatures over the raw body, compared in constant time. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { TriggerOf } from '#contract/trigger.ts';
import { headerOf } from './headers.ts';

export type Verification = TriggerOf<'webhook'>['verify'];

/** A signed time may be so far from ours, seconds, either way: what was recorded cannot be played back later. */
export const TOLERANCE_SECONDS = 300;
/** Signatures of one delivery that are looked at: one per key that is being changed. */
const MAX_SIGNATURES = 16;
const SECRET_PREFIX = 'whsec_';

export interface SignedRequest {
  /** Names in lower case and values, one after the other. */
  headers: readonly string[];
  body: Buffer;
}

/** null: it is genuine; else why not. `secret` is not looked at by `none`. */
export function signatureFault(verify: Verification, secret: string, request: SignedRequest, nowMs: number): string | null {
  // With an empty key anybody can sign.
  if (verify.scheme !== 'none' && keyOf(verify.scheme, secret).length === 0) return 'its secret is empty';
  switch (verify.scheme) {
    case 'none':
      return null;
    case 'standard':
      return standard(secret, request, nowMs);
    case 'github':
      return github(secret, request);
    case 'stripe':
      return stripe(secret, request, nowMs);
    case 'slack':
      return slack(secret, request, nowMs);
    case 'hmac':
      return hmac(verify, secret, request);
  }
}

/** A secret of Standard Webhooks that begins with whsec_ is Base64 behind it. */
const keyOf = (scheme: Verification['scheme'], secret: string): Buffer =>
  scheme === 'standard' && secret.startsWith(SECRET_PREFIX)
    ? Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64')
    : Buffer.from(secret, 'utf8');

const sign = (key: string | Buffer, ...parts: (string | Buffer)[]): Buffer => {
  const hash = createHmac('sha256', key);
  for (const part of parts) hash.update(part);
  return hash.digest();
};

function equal(expected: Buffer, given: Buffer): boolean {
  return expected.length === given.length && timingSafeEqual(expected, given);
}
const hex = (text: string): Buffer => (/^[0-9a-f]{64}$/i.test(text) ? Buffer.from(text, 'hex') : Buffer.alloc(0));
const base64 = (text: string): Buffer => (/^[A-Za-z0-9+/_-]{43}=?$/.test(text) ? Buffer.from(text, 'base64') : Buffer.alloc(0));

const missing = (header: string): string => `the header ${header} is missing`;
const WRONG = 'the signature does not match';

function staleness(timestamp: string, nowMs: number): string | null {
  if (!/^\d{1,12}$/.test(timestamp)) return 'the timestamp is no number of seconds';
  if (Math.abs(nowMs / 1_000 - Number(timestamp)) > TOLERANCE_SECONDS)
    return `the timestamp is more than ${TOLERANCE_SECONDS} seconds away from now`;
  return null;
}

/** https://www.standardwebhooks.com: `v1,BASE64` over `ID.TIMESTAMP.BODY`. A secret `whsec_…` is Base64. */
function standard(secret: string, { headers, body }: SignedRequest, nowMs: number): string | null {
  // The names that Svix, who wrote the specification, sends beside.
  const read = (name: string) => headerOf(headers, `webhook-${name}`) ?? headerOf(headers, `svix-${name}`);
  const [id, timestamp, signatures] = [read('id'), read('timestamp'), read('signature')];
  if (id === null) return missing('webhook-id');
  if (timestamp === null) return missing('webhook-timestamp');
  if (signatures === null) return missing('webhook-signature');
  const stale = staleness(timestamp, nowMs);
  if (stale !== null) return stale;
  const expected = sign(keyOf('standard', secret), `${id}.${timestamp}.`, body);
  const given = signatures.split(' ').slice(0, MAX_SIGNATURES);
  return given.some((one) => one.startsWith('v1,') && equal(expected, base64(one.slice(3)))) ? null : WRONG;
}

function github(secret: string, { headers, body }: SignedRequest): string | null {
  const signature = headerOf(headers, 'x-hub-signature-256');
  if (signature === null) return missing('x-hub-signature-256');
  return signature.startsWith('sha256=') && equal(sign(secret, body), hex(signature.slice('sha256='.length))) ? null : WRONG;
}

/** `t=TIMESTAMP,v1=HEX[,v1=HEX]` over `TIMESTAMP.BODY`. */
function stripe(secret: string, { headers, body }: SignedRequest, nowMs: number): string | null {
  const header = headerOf(headers, 'stripe-signature');
  if (header === null) return missing('stripe-signature');
  const parts = header.split(',', MAX_SIGNATURES).map((part) => part.trim());
  const timestamp = parts.find((part) => part.startsWith('t='))?.slice(2) ?? '';
  const stale = staleness(timestamp, nowMs);
  if (stale !== null) return stale;
  const expected = sign(secret, `${timestamp}.`, body);
  return parts.some((part) => part.startsWith('v1=') && equal(expected, hex(part.slice(3)))) ? null : WRONG;
}

/** `v0=HEX` over `v0:TIMESTAMP:BODY`. */
function slack(secret: string, { headers, body }: SignedRequest, nowMs: number): string | null {
  const timestamp = headerOf(headers, 'x-slack-request-timestamp');
  const signature = headerOf(headers, 'x-slack-signature');
  if (timestamp === null) return missing('x-slack-request-timestamp');
  if (signature === null) return missing('x-slack-signature');
  const stale = staleness(timestamp, nowMs);
  if (stale !== null) return stale;
  return signature.startsWith('v0=') && equal(sign(secret, `v0:${timestamp}:`, body), hex(signature.slice(3))) ? null : WRONG;
}

function hmac(
  { header, encoding, prefix }: Extract<Verification, { scheme: 'hmac' }>,
  secret: string,
  { headers, body }: SignedRequest,
): string | null {
  const signature = headerOf(headers, header);
  if (signature === null) return missing(header);
  if (!signature.startsWith(prefix)) return WRONG;
  const given = signature.slice(prefix.length);
  return equal(sign(secret, body), encoding === 'hex' ? hex(given) : base64(given)) ? null : WRONG;
}
