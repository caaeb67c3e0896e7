/** Random identifiers: lower-case letters and digits, fit for container names, labels and URLs. */
import { createHash, randomBytes } from 'node:crypto';
import { customAlphabet } from 'nanoid';

const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';
const instanceSuffix = customAlphabet(alphabet, 12);
const leaseSuffix = customAlphabet(alphabet, 16);

export const newInstanceId = (): string => `i-${instanceSuffix()}`;
export const newLeaseId = (): string => `l-${leaseSuffix()}`;

/** The part of a token's id that names it: `t-` and these 12 characters. */
export const newTokenSuffix = (): string => instanceSuffix();

/** 256 random bits, for nonces and tokens. */
export const newSecret = (): string => randomBytes(32).toString('base64url');

/** The first `length` hex digits of SHA-256. */
export function shortHash(text: string, length = 8): string {
  return createHash('sha256').update(text).digest('hex').slice(0, length);
}

/**
 * Ids of requests: a random prefix per process and a counter, so that one costs nanoseconds and
 * still none is made twice. They name a request; they are no secret.
 */
export function requestIds(): () => string {
  const prefix = customAlphabet(alphabet, 10)();
  let counter = 0;
  return () => `${prefix}-${(counter++).toString(36)}`;
}

const eventSuffix = customAlphabet(alphabet, 24);
/** An event: 124 bits of chance, for its id is what it can be asked for by. */
export const newEventId = (): string => `e-${eventSuffix()}`;
