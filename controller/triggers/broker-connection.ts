/**
 * One connection to a broker, made when it is needed and made anew after it was lost. The client libraries' own
 * reconnecting is not used: every dial goes through ResolveHost, and who waits for the broker is told why.
 */
import { backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';

/** Longest wait for a broker to be dialled and to greet. */
export const CONNECT_TIMEOUT_MS = 10_000;
/** Longest until a connection can be used: dialled, and what it needs found or made. */
const OPEN_TIMEOUT_MS = 30_000;
/** Longest wait for the answer to one request. */
export const REQUEST_TIMEOUT_MS = 10_000;
/** Pauses between dials that fail: at first up to, and at most. In between, callers get the last failure at once. */
const REDIAL_BASE_MS = 100;
const REDIAL_MAX_MS = 5_000;

interface BrokerConnectionOptions<T> {
  /** Dials. What it throws is what callers of `get` get. */
  open(): Promise<T>;
  /** Ends it; must not throw. */
  end(connection: T): Promise<void>;
  clock: Clock;
}

export class BrokerConnection<T> {
  readonly #options: BrokerConnectionOptions<T>;
  #current: T | null = null;
  #opening: Promise<T> | null = null;
  #closed = false;
  #failures = 0;
  #notBefore = 0;
  #failure: Error | null = null;

  constructor(options: BrokerConnectionOptions<T>) {
    this.#options = options;
  }

  /** The one that is open now; null: none is. */
  get current(): T | null {
    return this.#current;
  }

  /** The open connection, or a new one. Throws where the broker cannot be reached or refuses. */
  async get(): Promise<T> {
    if (this.#closed) throw new Error('it is closed');
    if (this.#current !== null) return this.#current;
    if (this.#opening === null) {
      if (this.#failure !== null && this.#options.clock.now() < this.#notBefore) throw this.#failure;
      this.#opening = this.#open().finally(() => (this.#opening = null));
    }
    return await this.#opening;
  }

  async #open(): Promise<T> {
    let connection: T;
    try {
      const opening = this.#options.open();
      connection = await within(opening, OPEN_TIMEOUT_MS, this.#options.clock, 'the connection').catch((error: unknown) => {
        // One that comes after all is not wanted any more.
        void opening.then(this.#options.end, () => {});
        throw error;
      });
    } catch (error) {
      this.#failures += 1;
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#notBefore = this.#options.clock.now() + backoffMs(this.#failures, { baseMs: REDIAL_BASE_MS, maxMs: REDIAL_MAX_MS });
      throw this.#failure;
    }
    this.#failures = 0;
    this.#failure = null;
    if (this.#closed) {
      await this.#options.end(connection);
      throw new Error('it is closed');
    }
    this.#current = connection;
    return connection;
  }

  /** It is gone: the next who needs one dials. Nothing where it is not the current one any more. */
  lost(connection: T): void {
    if (this.#current === connection) this.#current = null;
  }

  /** Ends it, and one that is being made. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const connection = this.#current;
    this.#current = null;
    if (connection !== null) await this.#options.end(connection);
    // Whoever opens one now ends it himself.
    await this.#opening?.catch(() => {});
  }
}

export interface Dialled {
  /** As it is written in the URL. */
  host: string;
  port: number;
  username: string | null;
  password: string | null;
}

/** Host, port and credentials of a URL, percent-decoded; IPv6 addresses without brackets. */
export function readUrl(text: string, defaultPort: number): Dialled {
  const url = new URL(text);
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? defaultPort : Number(url.port),
    username: url.username === '' ? null : decodeURIComponent(url.username),
    password: url.password === '' ? null : decodeURIComponent(url.password),
  };
}

/** HOST:PORT, for messages and for a CloudEvent's source. */
export const hostPort = (host: string, port: number): string => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);

/** What one error says, with the errors that it is made of. */
function saying(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const inner = 'errors' in error && Array.isArray(error.errors) ? error.errors : error.cause === undefined ? [] : [error.cause];
  const said = [error.message || error.name, ...inner.map(saying)].filter((text) => text !== '');
  return [...new Set(said)].join(': ');
}

/** An error that says of which broker it is, and holds none of the secrets: libraries put what they were given into theirs. */
export function brokerError(broker: string, error: unknown, secrets: readonly (string | null)[] = []): Error {
  let text = saying(error);
  for (const secret of secrets) {
    if (secret === null || secret === '') continue;
    text = text.replaceAll(secret, '***').replaceAll(encodeURIComponent(secret), '***');
  }
  return new Error(`${broker}: ${text}`);
}

/** Throws where it takes longer; what it says then is nobody's. */
export async function within<T>(work: Promise<T>, ms: number, clock: Clock, what: string): Promise<T> {
  let cancel = () => {};
  const late = new Promise<never>((_, reject) => {
    cancel = clock.after(ms, () => reject(new Error(`${what}: no answer within ${ms} ms`)));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    cancel();
  }
}

/** Waits for the first of: the work, `ms`, the signal. Never throws: what the work throws is the work's to tell. */
export async function firstOf(work: Promise<unknown>, ms: number, signal: AbortSignal, clock: Clock): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const end = () => {
      cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const cancel = clock.after(ms, end);
    signal.addEventListener('abort', end, { once: true });
    work.then(end, end);
  });
}

/** What has come and is not taken yet, and who waits for it. */
export class Inbox<T> {
  #items: T[] = [];
  #wake: (() => void) | null = null;
  #waiting: Promise<void> | null = null;
  #failure: Error | null = null;
  #ended = false;

  get size(): number {
    return this.#items.length;
  }

  push(...items: T[]): void {
    if (this.#ended) return;
    this.#items.push(...items);
    this.#notify();
  }

  /** Those that were taken and came back: before the others. */
  unshift(...items: T[]): void {
    if (this.#ended) return;
    this.#items.unshift(...items);
    this.#notify();
  }

  /** Whoever waits is told, and only he. */
  fail(error: Error): void {
    this.#failure = error;
    this.#notify();
  }

  /** There will be no more: what is here is dropped, who waits or asks is told. */
  end(): T[] {
    this.#ended = true;
    this.#notify();
    return this.drop();
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = null;
    this.#waiting = null;
  }

  /** Waits for one, for `waitMs` at most, and takes up to `max`. Throws what `fail` was given meanwhile, where nothing came. */
  async take(max: number, waitMs: number, signal: AbortSignal, clock: Clock): Promise<T[]> {
    if (this.#ended) throw new Error('it is closed');
    if (this.#items.length === 0) {
      this.#failure = null;
      this.#waiting ??= new Promise<void>((resolve) => (this.#wake = resolve));
      await firstOf(this.#waiting, waitMs, signal, clock);
    }
    if (signal.aborted) return [];
    if (this.#ended) throw new Error('it is closed');
    if (this.#items.length === 0 && this.#failure !== null) {
      const failure: Error = this.#failure;
      this.#failure = null;
      throw failure;
    }
    return this.#items.splice(0, max);
  }

  /** Takes all that fulfil it, without waiting. */
  drop(which: (item: T) => boolean = () => true): T[] {
    const dropped = this.#items.filter(which);
    this.#items = this.#items.filter((item) => !which(item));
    return dropped;
  }
}
