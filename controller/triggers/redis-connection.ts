/**
 * A connection to the Redis of a trigger or a destination: dialled when it is used, and anew when it broke. Every
 * command has a time limit; nothing waits in a queue of the client, and nothing is sent twice. What goes wrong is told
 * without the URL, which has the password in it.
 */
import { createHash } from 'node:crypto';
import { Redis } from 'ioredis';
import type { ResolveHost } from './types.ts';

/** An answer that takes longer is given up, and the connection with it: nobody knows what is in it. */
export const COMMAND_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 5_000;
const DEFAULT_PORT = 6_379;

export type RedisArgument = string | number | Uint8Array;

export interface Script {
  lua: string;
  sha: string;
}

/** A script is sent by its hash, and whole where the server does not have it. */
export const script = (lua: string): Script => ({ lua, sha: createHash('sha1').update(lua).digest('hex') });

export interface RedisConnectionOptions {
  /** redis:// or rediss://, with its secrets filled in. */
  url: string;
  resolve: ResolveHost;
  /** Shown by CLIENT LIST. */
  clientName: string;
}

export class RedisConnection {
  readonly #url: URL;
  readonly #options: RedisConnectionOptions;
  #client: Promise<Redis> | null = null;
  #closed = false;

  /** Throws where the URL is none; not because nobody answers. */
  constructor(options: RedisConnectionOptions) {
    if (!URL.canParse(options.url)) throw new Error('the URL of Redis is not valid once its secrets are filled in');
    this.#url = new URL(options.url);
    this.#options = options;
  }

  /** `redis://host:port/db`: the address without who connects. */
  get address(): string {
    const { protocol, hostname, port, pathname } = this.#url;
    return `${protocol}//${hostname}${port === '' ? '' : `:${port}`}${pathname === '/' ? '' : pathname}`;
  }

  /** Sends a command; strings of the answer are Buffers. Throws an Error that says what went wrong. */
  async call(name: string, ...args: RedisArgument[]): Promise<unknown> {
    return this.#told(COMMAND_TIMEOUT_MS, (client) => client.callBuffer(name, args.map(argument)));
  }

  /** A command that may wait for `waitMs` in the server. Nothing else should use this connection. */
  async block(waitMs: number, name: string, ...args: RedisArgument[]): Promise<unknown> {
    return this.#told(waitMs + COMMAND_TIMEOUT_MS, (client) => client.callBuffer(name, args.map(argument)));
  }

  /** Runs a script. */
  async run({ lua, sha }: Script, keys: readonly RedisArgument[], args: readonly RedisArgument[]): Promise<unknown> {
    const rest = [keys.length, ...keys, ...args];
    try {
      return await this.call('EVALSHA', sha, ...rest);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.includes('NOSCRIPT')) throw error;
      return await this.call('EVAL', lua, ...rest);
    }
  }

  /** Hangs up: what is under way fails. The next command dials anew. */
  drop(): void {
    const client = this.#client;
    this.#client = null;
    // One that could not be opened is closed already.
    client?.then(
      (open) => open.disconnect(),
      () => {},
    );
  }

  /** Idempotent. Commands that come later fail. */
  close(): void {
    this.#closed = true;
    this.drop();
  }

  async #told(timeoutMs: number, send: (client: Redis) => Promise<unknown>): Promise<unknown> {
    if (this.#closed) throw new Error(`${this.address}: the connection is closed`);
    let timer: NodeJS.Timeout | undefined;
    try {
      const client = await this.#use();
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          reject(new Error(`no answer within ${timeoutMs} ms`));
          this.drop();
        }, timeoutMs);
      });
      return await Promise.race([send(client), late]);
    } catch (error) {
      // A master that is none any more, or not yet: the name may lead to another one by now.
      if (error instanceof Error && /^(?:READONLY|LOADING|MASTERDOWN)/.test(error.message)) this.drop();
      throw this.#plain(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Without the library's own fields (it adds the command, AUTH too) and without the password, should a server repeat it. */
  #plain(error: unknown): Error {
    let message = error instanceof Error ? error.message : String(error);
    for (const secret of [this.#url.password, decoded(this.#url.password)]) if (secret !== '') message = message.replaceAll(secret, '***');
    const advice = message.startsWith('NOAUTH') ? ' Write it into the URL as a secret: redis://:${secret:NAME}@HOST' : '';
    return new Error(`${this.address}: ${message}${advice}`);
  }

  #use(): Promise<Redis> {
    if (this.#client !== null) return this.#client;
    const opening = this.#open();
    this.#client = opening;
    const forget = () => {
      if (this.#client === opening) this.#client = null;
    };
    opening.then((client) => client.once('end', forget), forget);
    return opening;
  }

  async #open(): Promise<Redis> {
    const { protocol, hostname, username, password, pathname } = this.#url;
    const name = hostname.replace(/^\[|\]$/g, '');
    const port = this.#url.port === '' ? DEFAULT_PORT : Number(this.#url.port);
    const at = await this.#options.resolve(name, port);
    const client = new Redis({
      host: at.host,
      port,
      db: Number(pathname.slice(1) || '0'),
      ...(username === '' ? {} : { username: decoded(username) }),
      ...(password === '' ? {} : { password: decoded(password) }),
      ...(protocol === 'rediss:' ? { tls: at.servername === undefined ? {} : { servername: at.servername } } : {}),
      connectionName: this.#options.clientName,
      // RESP2: every proxy and managed Redis speaks it, and nothing of RESP3 is needed.
      protocol: 2,
      disableClientInfo: true,
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: CONNECT_TIMEOUT_MS,
      // Dialled anew by us: the name may lead elsewhere by then, and must be judged again.
      retryStrategy: () => null,
    });
    // Kept: `connect` rejects with "Connection is closed", and this says why.
    let reason: Error | null = null;
    client.on('error', (error: Error) => (reason = error));
    try {
      await client.connect();
      return client;
    } catch (error) {
      client.disconnect();
      throw reason ?? error;
    }
  }
}

/** As it is where it is no percent-encoding. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const argument = (value: RedisArgument): string | number | Buffer =>
  value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value;

/** What an answer should be: lists, text, numbers. Throws where the server answered something else. */
export function asList(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new TypeError('Redis answered something that is no list');
  return value;
}
export function asBuffer(value: unknown): Buffer {
  if (!Buffer.isBuffer(value)) throw new TypeError('Redis answered something that is no text');
  return value;
}
export const asText = (value: unknown): string => asBuffer(value).toString('utf8');
export const asNumber = (value: unknown): number => Number(Buffer.isBuffer(value) ? value.toString('latin1') : value);
