/**
 * JSON Web Tokens (RFC 7519) checked at the gateway: a signature by a key of the set, with an algorithm
 * that has a public key; issuer, audience, times and claims.
 */
import { hash } from 'node:crypto';
import { errors, type JWTPayload, type JWTVerifyOptions, jwtVerify, type JWTVerifyResult } from 'jose';
import type { Auth } from '#contract/access.ts';
import type { Clock } from '#kit/clock.ts';
import { LruMap } from '../lru.ts';
import { inlineKeys, type KeyGetter, type Keys, type KeyStore } from './keys.ts';

/** Asymmetric ones only: `none` and the HMACs, whose key would be public here, are none of them. */
export const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'];
/** How far clocks may be apart. */
export const LEEWAY_SECONDS = 60;
/** Keys of a set that are tried for a token that names none. */
const MAX_KEYS_TRIED = 8;
/** Tokens that were found good, over all functions: a signature costs some 50 µs and a turn of the thread pool. */
const MAX_VERIFIED = 10_000;

/** Longest name of a caller that is kept as it is, characters. */
const MAX_CALLER_ID = 128;

type JwtAuth = Extract<Auth, { type: 'jwt' }>;

/** The token is not good; the message may be told to who sent it. */
export class InvalidToken extends Error {}

/** Who a good token speaks for. */
export interface JwtCaller {
  /** Issuer and subject, hashed where they are long; the hash of the token where it names no subject. */
  readonly id: string;
}

interface Verified {
  readonly caller: JwtCaller;
  /** Not before and until: ms since 1970, leeway included. */
  readonly from: number;
  readonly until: number;
  /** The keys that it was checked with: once there are others, it is checked again. */
  readonly keys: KeyGetter;
}

/** The check of one function. */
export interface JwtVerifier {
  /** Throws, at once or later, InvalidToken and KeysUnavailable. */
  verify(token: string): JwtCaller | Promise<JwtCaller>;
}

export class JwtChecks {
  readonly #clock: Clock;
  readonly #keys: KeyStore;
  readonly #verified = new LruMap<string, Verified>(MAX_VERIFIED);
  /** By the object that came with the route: a change of it is another verifier. */
  readonly #verifiers = new WeakMap<JwtAuth, JwtVerifier>();
  #count = 0;

  constructor(clock: Clock, keys: KeyStore) {
    this.#clock = clock;
    this.#keys = keys;
  }

  of(auth: JwtAuth): JwtVerifier {
    let verifier = this.#verifiers.get(auth);
    if (verifier === undefined) {
      verifier = this.#create(auth);
      this.#verifiers.set(auth, verifier);
    }
    return verifier;
  }

  #create(auth: JwtAuth): JwtVerifier {
    const number = String(this.#count++);
    const url = auth.jwksUrl ?? `${auth.issuer.replace(/\/$/, '')}/.well-known/jwks.json`;
    // Kept from the first use on: however many sets others have the store look for, this one stays.
    let keys: Keys | null = auth.jwks === undefined ? null : inlineKeys(auth.jwks);
    const clock = this.#clock;
    const verify = async (token: string, digest: string, from: Keys, current: KeyGetter): Promise<JwtCaller> => {
      const { result, used } = await verifyWithSet(token, auth, clock.wall(), from, current);
      const { payload } = result;
      checkClaims(payload, auth.claims);
      const caller = { id: callerId(auth.issuer, payload.sub, digest) };
      this.#verified.set(number + digest, { caller, keys: used, ...timesOf(payload) });
      return caller;
    };
    return {
      verify: (token) => {
        const digest = hash('sha256', token, 'base64url');
        const set = (keys ??= this.#keys.at(url));
        const known = this.#verified.get(number + digest);
        const current = set.current();
        const now = clock.wall();
        if (known !== undefined && known.keys === current && known.from <= now && now < known.until) return known.caller;
        return current instanceof Promise
          ? current.then((keysNow) => verify(token, digest, set, keysNow))
          : verify(token, digest, set, current);
      },
    };
  }
}

/** Kept for each caller that is counted, and who issues tokens says how long a subject is: so it is bounded here. */
function callerId(issuer: string, subject: unknown, digest: string): string {
  if (typeof subject !== 'string') return `jwt:${digest}`;
  const id = `jwt:${issuer}:${subject}`;
  return id.length <= MAX_CALLER_ID ? id : `jwt:${hash('sha256', id, 'base64url')}`;
}

const timesOf = ({ nbf, exp }: JWTPayload): { from: number; until: number } => ({
  from: nbf === undefined ? Number.NEGATIVE_INFINITY : (nbf - LEEWAY_SECONDS) * 1_000,
  until: (exp! + LEEWAY_SECONDS) * 1_000,
});

/** With the keys at hand, and where the token names another, with newer ones. */
async function verifyWithSet(
  token: string,
  auth: JwtAuth,
  now: number,
  keys: Keys,
  current: KeyGetter,
): Promise<{ result: JWTVerifyResult; used: KeyGetter }> {
  try {
    return { result: await verifySignature(token, auth, now, current), used: current };
  } catch (error) {
    if (!(error instanceof errors.JWKSNoMatchingKey)) throw invalid(error);
    const newer = await keys.newer();
    if (newer === null) throw invalid(error);
    return {
      result: await verifySignature(token, auth, now, newer).catch((second: unknown) => {
        throw invalid(second);
      }),
      used: newer,
    };
  }
}

async function verifySignature(token: string, auth: JwtAuth, now: number, keys: KeyGetter): Promise<JWTVerifyResult> {
  const options: JWTVerifyOptions = {
    algorithms: ALGORITHMS,
    issuer: auth.issuer,
    audience: auth.audience,
    clockTolerance: LEEWAY_SECONDS,
    currentDate: new Date(now),
    // One without an end would be good for ever, revoked or not.
    requiredClaims: ['exp'],
  };
  try {
    return await jwtVerify(token, keys, options);
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    let tried = 0;
    for await (const key of error) {
      if (++tried > MAX_KEYS_TRIED) break;
      try {
        return await jwtVerify(token, key, options);
      } catch (second) {
        if (!(second instanceof errors.JWSSignatureVerificationFailed)) throw second;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** What may be told to who sent the token. */
function invalid(error: unknown): InvalidToken {
  if (error instanceof errors.JWTExpired) return new InvalidToken('the token has expired');
  if (error instanceof errors.JWTClaimValidationFailed && error.reason === 'missing')
    return new InvalidToken(`the token has no ${error.claim}`);
  if (error instanceof errors.JWTClaimValidationFailed) return new InvalidToken(`the claim ${error.claim} is not what it must be`);
  if (error instanceof errors.JOSEAlgNotAllowed) return new InvalidToken('the algorithm of the token is not taken');
  if (error instanceof errors.JWKSNoMatchingKey) return new InvalidToken('no key of the set fits the token');
  if (error instanceof errors.JWSSignatureVerificationFailed) return new InvalidToken('the signature of the token is wrong');
  return new InvalidToken('this is no token that can be read');
}

/** Each claim must be there with exactly this value, or be a list that holds it. */
function checkClaims(payload: JWTPayload, claims: JwtAuth['claims']): void {
  for (const [name, expected] of Object.entries(claims)) {
    const value = Object.hasOwn(payload, name) ? payload[name] : undefined;
    if (value === expected || (Array.isArray(value) && value.includes(expected))) continue;
    throw new InvalidToken(`the claim ${name} is not what it must be`);
  }
}
