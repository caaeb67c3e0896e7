/**
 * A connection to Redis under our rules:
 *
 * - Every command has a time limit of its own, and what has no answer by then is rejected. Without a connection a command is
 *   rejected at once: nothing waits in a queue that nobody sees.
 * - What was sent and not answered when the connection broke is rejected too, and the library sends nothing a second
 *   time: nobody can know whether it was done. Who calls may send it again where the script is made for that (an enqueue has
 *   a deduplication id, an artifact is there or not); a deployment is answered with 503, and its number is given to no other.
 * - A Redis that is frozen looks like one that is gone: what does not answer for the time limit is hung up on and dialled anew.
 * - All keys begin with `fn:{NAME}:`: one hash slot, so that a script may touch any of them.
 */
import { createHash } from 'node:crypto';
import { Redis } from 'ioredis';
import { FnError } from '#contract/errors.ts';
import { backoffMs } from '#kit/backoff.ts';
import { sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { type RedisAddress, redisEndpoint, storeUrlToShow } from '#kit/store-url.ts';
import { isRefusal, redisError, unavailable } from './errors.ts';

/** A command that takes longer has failed. A script of ours takes well below 1 ms; an fsync of a busy disk some 100. */
export const COMMAND_TIMEOUT_MS = 2_000;
const CONNECT_TIMEOUT_MS = 2_000;
/** How long one waits for Redis at the start: it may be starting, too. */
const OPEN_TIMEOUT_MS = 5_000;
/** Between attempts to connect. Short: who takes over has 10 s for everything. */
const RECONNECT = { baseMs: 50, maxMs: 1_000, jitter: 0.5 };
/** COPY, GETDEL, LMOVE and EXPIRE in scripts are of 6.2. */
const OLDEST = [6, 2] as const;

export type RedisValue = string | number | Buffer;

export interface Script {
  readonly lua: string;
  readonly sha1: string;
}

/** A script is sent as a whole once per server, then named by its digest. */
export function defineScript(lua: string): Script {
  return { lua, sha1: createHash('sha1').update(lua).digest('hex') };
}

export interface RedisConnectionOptions {
  address: RedisAddress;
  log: Log;
  /** Shown by CLIENT LIST. */
  clientName: string;
  commandTimeoutMs?: number;
  openTimeoutMs?: number;
}

/** Connects. Throws FnError store-unavailable, which has the address (not the password) and says what to do. */
export async function openRedis(options: RedisConnectionOptions): Promise<RedisConnection> {
  const connection = new RedisConnection(options);
  try {
    await connection.untilReady(options.openTimeoutMs ?? OPEN_TIMEOUT_MS);
    await checkVersion(connection);
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

export class RedisConnection {
  /** `redis://HOST:PORT/DB`, without the password. */
  readonly address: string;
  /** What each key begins with. */
  readonly prefix: string;
  readonly #redis: Redis;
  readonly #log: Log;
  #lastError: Error | null = null;
  #down = true;
  #closed = false;

  constructor({ address, log, clientName, commandTimeoutMs = COMMAND_TIMEOUT_MS }: RedisConnectionOptions) {
    this.address = storeUrlToShow(address);
    this.prefix = `fn:{${address.name}}:`;
    this.#log = log;
    this.#redis = new Redis({
      ...redisEndpoint(address),
      connectionName: clientName,
      // RESP2: every proxy and managed Redis speaks it, and we need nothing of RESP3.
      protocol: 2,
      disableClientInfo: true,
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      // With 0 all that is under way is rejected when the connection closes; without, it would be left hanging.
      maxRetriesPerRequest: 0,
      commandTimeout: commandTimeoutMs,
      // The command is told first, then the connection is closed.
      socketTimeout: commandTimeoutMs + 100,
      connectTimeout: CONNECT_TIMEOUT_MS,
      retryStrategy: (attempt) => Math.ceil(backoffMs(attempt, RECONNECT)),
      // After a failover the old master is a replica: dial anew, the name may lead elsewhere by now.
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    });
    this.#redis.on('error', (error: Error) => (this.#lastError = error));
    this.#redis.on('ready', () => this.#onReady());
    this.#redis.on('close', () => this.#onClose());
  }

  /** True while commands can be sent. */
  get ready(): boolean {
    return this.#redis.status === 'ready';
  }

  key(name: string): string {
    return this.prefix + name;
  }

  /** Runs a command; strings in its answer are text. Keys are given whole, see key(). Throws FnError store-unavailable. */
  call(command: string, ...args: RedisValue[]): Promise<unknown> {
    return this.#told(this.#redis.call(command, args));
  }

  /** As call(); strings in the answer are Buffers. */
  callBuffer(command: string, ...args: RedisValue[]): Promise<unknown> {
    return this.#told(this.#redis.callBuffer(command, args));
  }

  /**
   * Runs a script; strings in its answer are text. What it says by `redis.error_reply('FN CODE what happened')` is thrown as
   * FnError of that code; else throws FnError store-unavailable.
   */
  async run(script: Script, keys: readonly string[], args: readonly RedisValue[]): Promise<unknown> {
    const rest = [keys.length, ...keys, ...args];
    try {
      return await this.#told(this.#redis.call('EVALSHA', [script.sha1, ...rest]));
    } catch (error) {
      if (!isNoScript(error)) throw error;
      // It was not run: Redis was restarted, or has never seen it.
      return await this.#told(this.#redis.call('EVAL', [script.lua, ...rest]));
    }
  }

  /** As run(); strings in the answer are Buffers. */
  async runBuffer(script: Script, keys: readonly string[], args: readonly RedisValue[]): Promise<unknown> {
    const rest = [keys.length, ...keys, ...args];
    try {
      return await this.#told(this.#redis.callBuffer('EVALSHA', [script.sha1, ...rest]));
    } catch (error) {
      if (!isNoScript(error)) throw error;
      return await this.#told(this.#redis.callBuffer('EVAL', [script.lua, ...rest]));
    }
  }

  /** Waits for the connection. Throws FnError store-unavailable when the time is up, or Redis refuses us. */
  async untilReady(timeoutMs: number): Promise<void> {
    const until = performance.now() + timeoutMs;
    // It goes on trying by itself; what went wrong is kept in #lastError.
    if (this.#redis.status === 'wait') this.#redis.connect().catch(() => {});
    for (;;) {
      const why = this.#lastError?.message;
      // Also where it is "ready" after that: a database that is not there leaves us in another one.
      if (why !== undefined && isRefusal(why)) throw redisError(this.#lastError, this.address);
      if (this.ready) return;
      if (performance.now() >= until || this.#closed) {
        const advice = 'is it running, and can this host reach it? Check --store (or FN_STORE), and start Redis first';
        throw unavailable(this.address, why ?? 'it does not answer', advice, this.#lastError ?? undefined);
      }
      await sleep(20);
    }
  }

  /** What is under way is rejected. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#redis.disconnect();
  }

  async #told(answer: Promise<unknown>): Promise<unknown> {
    try {
      return await answer;
    } catch (error) {
      if (this.#closed)
        throw new FnError('store-unavailable', 'The store is closed: this process is shutting down.', {
          cause: error,
          retryAfterSeconds: 1,
        });
      throw redisError(error, this.address);
    }
  }

  #onReady(): void {
    if (this.#down) this.#log.info({ store: this.address }, 'connected to the store');
    this.#down = false;
    if (!isRefusal(this.#lastError?.message ?? '')) this.#lastError = null;
  }

  /** Once per outage, however many attempts follow. */
  #onClose(): void {
    if (!this.#down && !this.#closed)
      this.#log.warn(
        { store: this.address, error: this.#lastError?.message ?? 'closed' },
        'the connection to the store broke: connecting anew',
      );
    this.#down = true;
  }
}

const isNoScript = (error: unknown): boolean => error instanceof Error && error.message.startsWith('NOSCRIPT');

async function checkVersion(connection: RedisConnection): Promise<void> {
  const info = String(await connection.call('INFO', 'server'));
  const version = /^redis_version:(\d+)\.(\d+)/m.exec(info);
  // A service that hides its version is believed.
  if (version === null) return;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
  throw new FnError(
    'store-unavailable',
    `The store ${connection.address} is Redis ${major}.${minor}; fn needs ${OLDEST.join('.')} or newer.`,
  );
}
