/**
 * Sets of public keys (RFC 7517) by URL: fetched once for all who ask, kept for a while, kept on while
 * their server is away, and fetched again when a token names a key that is not among them.
 */
import { createLocalJWKSet, type JSONWebKeySet } from 'jose';
import { z } from 'zod';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { LruMap } from '../lru.ts';

/** A set older than this is fetched again, while the old one serves. */
export const FRESH_MS = 600_000;
/** A set that could not be fetched again for so long is not believed any more: a key may have been withdrawn. */
export const STALE_MS = 86_400_000;
/** Between two fetches, whatever is asked: a flood of made-up key ids is no flood of fetches. */
export const COOLDOWN_MS = 30_000;
/** After a fetch that failed, where there is no set at all. */
export const RETRY_MS = 5_000;
/** Sets that are shared by URL; functions keep those that they use besides. */
const MAX_SETS = 256;

const Key = z.looseObject({ kty: z.string() });
const KeySet = z.looseObject({ keys: z.array(Key).max(100) });

export type KeyGetter = ReturnType<typeof createLocalJWKSet>;

/** Keys from a document. Throws an Error that says what is wrong with it. */
export function readKeySet(document: unknown): KeyGetter {
  const parsed = KeySet.safeParse(document);
  if (!parsed.success) throw new Error('what came is no JSON Web Key Set');
  return createLocalJWKSet(parsed.data satisfies JSONWebKeySet);
}

/** The keys cannot be had now. */
export class KeysUnavailable extends Error {
  readonly retryAfterSeconds: number;

  constructor(message: string, retryAfterSeconds: number) {
    super(message);
    this.name = 'KeysUnavailable';
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Where a verifier gets its keys. Both may be answered at once or later; both throw KeysUnavailable. */
export interface Keys {
  current(): KeyGetter | Promise<KeyGetter>;
  /** As `current`, fetched anew where that was not done a moment ago: for a key that is not among them. Null: nothing newer. */
  newer(): Promise<KeyGetter | null>;
}

/**
 * Keys that were given with the function. Those that are none are left out: no token fits them, which is
 * said to who brings one, for there is nothing to wait for.
 */
export function inlineKeys({ keys }: { keys: readonly unknown[] }): Keys {
  const usable = keys.flatMap((key) => Key.safeParse(key).data ?? []);
  const set = createLocalJWKSet({ keys: usable });
  return { current: () => set, newer: () => Promise.resolve(null) };
}

class RemoteKeys implements Keys {
  readonly #url: string;
  readonly #options: KeyStoreOptions;
  #keys: KeyGetter | null = null;
  #fetchedAt = 0;
  #triedAt = Number.NEGATIVE_INFINITY;
  #error = '';
  #loading: Promise<void> | null = null;

  constructor(url: string, options: KeyStoreOptions) {
    this.#url = url;
    this.#options = options;
  }

  current(): KeyGetter | Promise<KeyGetter> {
    const now = this.#options.clock.now();
    const age = now - this.#fetchedAt;
    if (this.#keys !== null && age <= STALE_MS) {
      if (age > FRESH_MS && now - this.#triedAt >= COOLDOWN_MS) void this.#load();
      return this.#keys;
    }
    this.#keys = null;
    const wait = this.#triedAt + RETRY_MS - now;
    if (this.#loading === null && wait > 0) throw this.#unavailable(wait);
    return this.#load().then(() => {
      if (this.#keys === null) throw this.#unavailable(RETRY_MS);
      return this.#keys;
    });
  }

  async newer(): Promise<KeyGetter | null> {
    const before = this.#keys;
    if (this.#loading === null && this.#options.clock.now() - this.#triedAt < COOLDOWN_MS) return null;
    await this.#load();
    return this.#keys === before ? null : this.#keys;
  }

  #unavailable(waitMs: number): KeysUnavailable {
    return new KeysUnavailable(`the keys at ${this.#url} cannot be had: ${this.#error}`, Math.ceil(waitMs / 1_000));
  }

  /** Never rejects: what went wrong is kept. One fetch at a time. */
  #load(): Promise<void> {
    this.#loading ??= this.#fetch().finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #fetch(): Promise<void> {
    const { clock, fetch, log } = this.#options;
    try {
      this.#keys = readKeySet(JSON.parse(await fetch(this.#url)));
      this.#fetchedAt = clock.now();
      this.#error = '';
    } catch (error) {
      this.#error = error instanceof Error ? error.message : String(error);
      log.warn({ url: this.#url, error: this.#error, kept: this.#keys !== null }, 'keys could not be fetched');
    }
    this.#triedAt = clock.now();
  }
}

export interface KeyStoreOptions {
  clock: Clock;
  log: Log;
  /** The document at a URL; rejects with an Error that says why there is none. */
  fetch: (url: string) => Promise<string>;
}

/** The sets of all functions: those with the same URL share one. */
export class KeyStore {
  readonly #options: KeyStoreOptions;
  readonly #sets = new LruMap<string, Keys>(MAX_SETS);

  constructor(options: KeyStoreOptions) {
    this.#options = options;
  }

  at(url: string): Keys {
    let keys = this.#sets.get(url);
    if (keys === undefined) {
      keys = new RemoteKeys(url, this.#options);
      this.#sets.set(url, keys);
    }
    return keys;
  }
}
