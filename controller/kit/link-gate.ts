/**
 * Where links over TCP come in: a listener, plain or TLS, that hands on a connection once it has shown the token. What
 * one costs that has not is bounded: there are few of them, each with one line of a kilobyte and a few seconds, and of
 * what else it says nothing is looked at. When there are too many, the one that came first goes of the address that has
 * the most; and from an address that shows no token again and again nothing is taken for a while, since a handshake costs
 * us more than it costs the other: neither an idler nor a flood from one place can keep a gateway out.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, createSecureContext, type Server as TlsServer } from 'node:tls';
import { sleep } from './clock.ts';
import { FollowedFiles } from './followed-files.ts';
import { HEARTBEAT_MS, type HeartbeatTiming, keepAlive, SILENCE_MS } from './heartbeat.ts';
import { type TcpListen, showEndpoint } from './link-endpoint.ts';
import { MAX_GREETING_BYTES, refusalLine, tokenOf, welcomeLine } from './link-greeting.ts';
import { parseTokens, tokenHash, TokenSet } from './link-tokens.ts';
import type { Log } from './log.ts';

/** Connections that have not shown the token yet, or were refused and are about to be closed. */
export const MAX_PENDING = 64;
/** Of one address so many may end without having shown it within STRIKES_MS; then it is hung up on before it has said anything. */
export const MAX_STRIKES = 32;
const STRIKES_MS = 10_000;
/** Addresses whose strikes are counted: who has more of them than that has a network of his own. */
const MAX_STRUCK = 4_096;
/** Who was refused is told so, and closed, after this, ms: always the same, and slow to try on. */
const REFUSE_AFTER_MS = 1_000;
/** Then it has so long to hang up itself, ms. */
const LINGER_MS = 500;
/** Refusals are logged at most this often, ms, with their number. */
const LOG_EVERY_MS = 1_000;
/** A port that is taken, by a process that is about to end, is waited for so long, ms. */
const PORT_WAIT_MS = 10_000;
const PORT_RETRY_MS = 100;
/** TCP itself looks for a peer that went without a word after this, ms: for the system to let go of what we gave up. */
const TCP_KEEP_ALIVE_MS = 10_000;

export interface GateTiming extends HeartbeatTiming {
  refuseAfterMs: number;
  logEveryMs: number;
  /** How often token and certificate are looked at, ms. */
  followEveryMs: number | undefined;
  portWaitMs: number;
}

const TIMING: GateTiming = {
  heartbeatMs: HEARTBEAT_MS,
  silenceMs: SILENCE_MS,
  refuseAfterMs: REFUSE_AFTER_MS,
  logEveryMs: LOG_EVERY_MS,
  followEveryMs: undefined,
  portWaitMs: PORT_WAIT_MS,
};

export interface LinkGateOptions {
  listen: TcpListen;
  /** Who dials, for the log: `a gateway`. */
  peer: string;
  /** The token is shown within this, from the first packet on, ms; a handshake included. */
  greetingTimeoutMs: number;
  maxPending?: number | undefined;
  /** It has shown the token, and been told so. `rest`: what it has said since. Its errors are the new owner's. */
  onAdmitted: (socket: Socket, rest: Buffer) => void;
  log: Log;
  timing?: Partial<GateTiming> | undefined;
}

interface Pending {
  raw: Socket;
  from: string;
  timer: NodeJS.Timeout;
}

/** The same for a connection and for the TLS that runs on it. */
const idOf = (socket: Socket): string => `${socket.remoteAddress} ${socket.remotePort}`;

export class LinkGate {
  readonly #options: LinkGateOptions;
  readonly #timing: GateTiming;
  readonly #server: Server | TlsServer;
  readonly #files: FollowedFiles[] = [];
  /** The first the first. */
  readonly #pending = new Map<string, Pending>();
  readonly #admitted = new Map<Socket, Buffer>();
  /** By address, how many ended without a token lately. */
  readonly #strikes = new Map<string, number>();
  #strikesTimer: NodeJS.Timeout | null = null;
  #tokens = new TokenSet([]);
  #refused = 0;
  #refusedSince = 0;
  #logTimer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: LinkGateOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    const { listen, greetingTimeoutMs } = options;
    const tcp = { noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS };
    if (listen.tls === null) {
      this.#server = createServer(tcp, (socket) => this.#greet(socket));
    } else {
      const server = createTlsServer({ ...tcp, minVersion: 'TLSv1.2', handshakeTimeout: greetingTimeoutMs });
      server.on('secureConnection', (socket) => this.#greet(socket));
      // Node has ended it.
      server.on('tlsClientError', (error, socket) => this.#count(socket, `no TLS: ${error.message}`));
      this.#server = server;
    }
    // Before any handshake, and so before the listener of 'connection' that begins it.
    this.#server.prependListener('connection', (raw: Socket) => this.#await(raw));
  }

  /** Connections that were refused, ever. */
  get refused(): number {
    return this.#refused;
  }

  get pending(): number {
    return this.#pending.size;
  }

  get address(): AddressInfo | null {
    const address = this.#server.address();
    return typeof address === 'string' ? null : address;
  }

  /** Listens. Throws where token or certificate cannot be used, or the port stays taken. */
  async start(): Promise<void> {
    const { listen, log } = this.#options;
    const everyMs = this.#timing.followEveryMs;
    const follow = (paths: string[], use: (texts: readonly string[]) => void): void => {
      const files = new FollowedFiles({ paths, use, log, everyMs });
      files.start();
      this.#files.push(files);
    };
    try {
      follow([listen.tokenFile], ([text = '']) => this.#setTokens(parseTokens(text, listen.tokenFile)));
      const server = this.#server;
      if (listen.tls !== null && 'setSecureContext' in server) {
        const { dir } = listen.tls;
        follow([join(dir, 'tls.crt'), join(dir, 'tls.key')], ([cert = '', key = '']) => {
          // Here it throws where the two do not belong together, before the server has them.
          createSecureContext({ cert, key });
          server.setSecureContext({ cert, key, minVersion: 'TLSv1.2' });
        });
      }
      await this.#listen();
      this.#strikesTimer = setInterval(() => this.#strikes.clear(), STRIKES_MS).unref();
    } catch (error) {
      await this.close();
      throw error;
    }
    log.info({ address: this.address, tls: listen.tls !== null }, 'links over TCP are taken');
  }

  async #listen(): Promise<void> {
    const { host, port } = this.#options.listen;
    const end = performance.now() + this.#timing.portWaitMs;
    for (;;) {
      try {
        this.#server.listen(port, host);
        await once(this.#server, 'listening');
        break;
      } catch (error) {
        const taken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
        if (!taken || this.#closed || performance.now() > end)
          throw new Error(`${showEndpoint(this.#options.listen)} cannot be listened on: ${messageOf(error)}`, { cause: error });
        await sleep(PORT_RETRY_MS);
      }
    }
    // One connection that could not be accepted is no reason to end.
    this.#server.on('error', (error: Error) => this.#options.log.warn({ error: error.message }, 'a link could not be accepted'));
  }

  /** Ends all connections, those that were handed on too, and listens no more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#strikesTimer !== null) clearInterval(this.#strikesTimer);
    for (const files of this.#files.splice(0)) files.close();
    for (const { raw } of this.#pending.values()) raw.destroy();
    for (const socket of this.#admitted.keys()) socket.destroy();
    this.#tellRefusals();
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  /** Who came in with a token that is none any more has to come again. */
  #setTokens(tokens: readonly string[]): void {
    const set = new TokenSet(tokens);
    this.#tokens = set;
    for (const [socket, shown] of this.#admitted)
      if (!set.takesHash(shown)) socket.destroy(new Error('the token that it came with is not in use any more'));
  }

  #await(raw: Socket): void {
    const { maxPending = MAX_PENDING, greetingTimeoutMs } = this.#options;
    const from = raw.remoteAddress;
    // With TLS nobody else hears of it.
    raw.on('error', () => raw.destroy());
    if (from === undefined) {
      // Gone before it was looked at.
      raw.destroy();
      return;
    }
    if ((this.#strikes.get(from) ?? 0) >= MAX_STRIKES) {
      this.#count(raw, `${MAX_STRIKES} connections from there have not shown a token within ${STRIKES_MS / 1_000} s`);
      raw.destroy();
      return;
    }
    if (this.#pending.size >= maxPending) {
      const first = this.#firstOfMost();
      this.#count(first.raw, `more than ${maxPending} connections have not shown a token`);
      first.raw.destroy();
    }
    const id = idOf(raw);
    const timer = setTimeout(() => {
      this.#count(raw, `no token within ${greetingTimeoutMs} ms`);
      raw.destroy();
    }, greetingTimeoutMs);
    timer.unref();
    this.#pending.set(id, { raw, from, timer });
    raw.once('close', () => {
      // Whoever has shown the token is not among them any more.
      if (this.#pending.has(id)) this.#strike(from);
      this.#forget(id);
    });
  }

  /** Of the address that has the most, the first. */
  #firstOfMost(): Pending {
    const groups = [...Map.groupBy(this.#pending.values(), ({ from }) => from).values()];
    return groups.reduce((most, group) => (group.length > most.length ? group : most))[0]!;
  }

  #strike(from: string): void {
    if (this.#strikes.size >= MAX_STRUCK && !this.#strikes.has(from)) return;
    this.#strikes.set(from, (this.#strikes.get(from) ?? 0) + 1);
  }

  #forget(id: string): void {
    clearTimeout(this.#pending.get(id)?.timer);
    this.#pending.delete(id);
  }

  #greet(socket: Socket): void {
    const id = idOf(socket);
    let text: Buffer = Buffer.alloc(0);
    const onError = () => socket.destroy();
    const onData = (chunk: Buffer) => {
      text = text.length === 0 ? chunk : Buffer.concat([text, chunk]);
      const newline = text.indexOf(10);
      if (newline < 0 && text.length < MAX_GREETING_BYTES) return;
      socket.off('data', onData);
      socket.pause();
      const line = newline < 0 || newline >= MAX_GREETING_BYTES ? null : text.toString('utf8', 0, newline);
      const token = line === null ? null : tokenOf(line);
      if (token === null) this.#refuse(socket, 'it does not begin as a link');
      else if (!this.#tokens.takes(token)) this.#refuse(socket, 'its token is not the one that is expected');
      else {
        socket.off('error', onError);
        this.#forget(id);
        this.#admit(socket, tokenHash(token), text.subarray(newline + 1));
      }
      text = Buffer.alloc(0);
    };
    socket.on('error', onError);
    socket.on('data', onData);
  }

  #admit(socket: Socket, shown: Buffer, rest: Buffer): void {
    this.#admitted.set(socket, shown);
    socket.once('close', () => this.#admitted.delete(socket));
    socket.write(welcomeLine());
    keepAlive(socket, this.#timing);
    this.#options.onAdmitted(socket, rest);
  }

  /** It stays among those that wait until it is closed. What it goes on to say is not looked at. */
  #refuse(socket: Socket, why: string): void {
    this.#count(socket, why);
    clearTimeout(this.#pending.get(idOf(socket))?.timer);
    let timer = setTimeout(() => {
      // To be heard it must not be followed by a reset: what the other has sent is read, and it hangs up; or we do.
      socket.end(refusalLine('token'));
      socket.resume();
      timer = setTimeout(() => socket.destroy(), LINGER_MS).unref();
    }, this.#timing.refuseAfterMs).unref();
    socket.once('close', () => clearTimeout(timer));
  }

  #count(socket: Socket, why: string): void {
    this.#refused += 1;
    this.#refusedSince += 1;
    if (this.#logTimer !== null) return;
    const { log, peer, listen } = this.#options;
    log.warn({ from: socket.remoteAddress, why, at: showEndpoint(listen) }, `${peer} was not let in`);
    this.#refusedSince = 0;
    this.#logTimer = setTimeout(() => this.#tellRefusals(), this.#timing.logEveryMs);
    this.#logTimer.unref();
  }

  #tellRefusals(): void {
    if (this.#logTimer !== null) clearTimeout(this.#logTimer);
    this.#logTimer = null;
    const { log, listen } = this.#options;
    if (this.#refusedSince > 0) log.warn({ count: this.#refusedSince, at: showEndpoint(listen) }, 'more were not let in');
    this.#refusedSince = 0;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
