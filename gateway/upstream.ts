/**
 * Connections to one instance: one undici Client each, at most one request at a time on it, the most
 * recently used first so that the others can close. A Client re-connects by itself.
 *
 * Where the instance listens on a unix socket, the path is opened once, O_PATH and O_NOFOLLOW, must
 * be a socket, and /proc/self/fd/N is dialled from then on: what the function may later put at that
 * path (a link to the Docker socket, say) is never looked at.
 *
 * Where it is reached over TCP, it may go without a word: its node lost power, and what is sent there is lost. While
 * requests are in flight and none ends, a fresh connection is tried now and then; where that fails somebody is told,
 * long before TCP itself or the deadline of a request gives up.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { connect as netConnect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Client, type buildConnector } from 'undici';
import type { Address } from '#contract/runtime.ts';
import type { Clock } from '#kit/clock.ts';
import type { Connection } from './demand.ts';

/** Linux only, and not among Node's constants (fcntl-linux.h, the same on x86-64 and arm64). */
const O_PATH = 0x20_0000;

/** Time for a connection to come about. A unix socket answers at once; a pod within some ms, or its node is gone. */
export const CONNECT_TIMEOUT_MS = 1_000;
/** An instance over TCP with requests in flight of which none has ended since the last look is tried this often, ms. */
export const LOOK_EVERY_MS = 5_000;
/** Idle connections over TCP are tried by the kernel itself after this, ms; ten tries a second apart. */
const TCP_KEEP_ALIVE_MS = 5_000;
/** Idle connections are closed after this, and a second before the instance says it will (its Keep-Alive header). */
const IDLE_TIMEOUT_MS = 15_000;
const IDLE_TIMEOUT_MAX_MS = 60_000;
const IDLE_TIMEOUT_THRESHOLD_MS = 1_000;
/** Of a function's response. */
export const MAX_RESPONSE_HEADER_BYTES = 64 * 1_024;

/** No connection came about; not a byte of a request was sent. */
export class ConnectError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ConnectError';
  }
}

/** An open handle on the socket that was at the path, without following a link. Throws where it is none. */
function openSocket(path: string): number {
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  if (fstatSync(fd).isSocket()) return fd;
  closeSync(fd);
  throw new Error('what is at the path of the instance is not a socket');
}

export class Upstream implements Connection {
  readonly #address: Address;
  readonly #clock: Clock;
  /** Hears that it cannot be reached, though requests are in flight. Once per look. */
  readonly #onUnreachable: (reason: string) => void;
  readonly #clients = new Set<Client>();
  readonly #idle: Client[] = [];
  /** Connections that have become WebSockets: no client knows of them any more. */
  readonly #upgraded = new Set<Duplex>();
  /** O_PATH handle of a unix socket, once it was dialled. */
  #handle: number | null = null;
  #closed = false;
  /** Clients that are in use. */
  #busy = 0;
  /** Whether a request has ended since the last look. */
  #ended = false;
  /** Is it looked at every few seconds? Never on a unix socket: this host knows of its processes. */
  #looking: boolean;
  #cancelLook: () => void = () => {};
  #probe: Socket | null = null;

  constructor(address: Address, clock: Clock, onUnreachable: (reason: string) => void) {
    this.#address = address;
    this.#clock = clock;
    this.#onUnreachable = onUnreachable;
    this.#looking = address.kind === 'unix';
  }

  /** A client that nobody uses. Give it back with `release`. */
  acquire(): Client {
    this.#busy++;
    if (!this.#looking) this.#lookLater();
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    const client = new Client('http://instance', {
      connect: this.#connect,
      pipelining: 1,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      keepAliveMaxTimeout: IDLE_TIMEOUT_MAX_MS,
      keepAliveTimeoutThreshold: IDLE_TIMEOUT_THRESHOLD_MS,
      maxHeaderSize: MAX_RESPONSE_HEADER_BYTES,
      // The gateway has deadlines of its own, on one wheel.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    this.#clients.add(client);
    return client;
  }

  release(client: Client): void {
    this.#busy--;
    this.#ended = true;
    if (!this.#closed && !client.destroyed) this.#idle.push(client);
  }

  /** The connection has left its client, and ends with the instance all the same. */
  keep(socket: Duplex): void {
    this.#upgraded.add(socket);
    socket.once('close', () => this.#upgraded.delete(socket));
  }

  /** Ends every connection, whatever is on it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelLook();
    this.#probe?.destroy();
    const reason = new Error('the instance is gone');
    // Its promise has no news: requests on it are told by their handlers.
    for (const client of this.#clients) void client.destroy(reason);
    this.#clients.clear();
    for (const socket of this.#upgraded) socket.destroy();
    this.#idle.length = 0;
    if (this.#handle !== null) closeSync(this.#handle);
    this.#handle = null;
  }

  #lookLater(): void {
    this.#looking = true;
    this.#cancelLook = this.#clock.after(LOOK_EVERY_MS, () => {
      // Whoever uses it next has it looked at again.
      this.#looking = this.#busy > 0;
      if (!this.#looking) return;
      if (!this.#ended) this.#tryIt();
      this.#ended = false;
      this.#lookLater();
    });
  }

  /** That it takes a connection is all there is to know: a busy function may leave it at that for long. */
  #tryIt(): void {
    if (this.#probe !== null || this.#closed) return;
    const probe = this.#dial();
    this.#probe = probe;
    const cancel = this.#clock.after(CONNECT_TIMEOUT_MS, () => probe.destroy(new Error(`no connection within ${CONNECT_TIMEOUT_MS} ms`)));
    probe.once('connect', () => probe.destroy());
    probe.once('error', (error) => {
      if (!this.#closed) this.#onUnreachable(`requests are in flight, and it takes no connection: ${error.message}`);
    });
    probe.once('close', () => {
      cancel();
      this.#probe = null;
    });
  }

  #dial(): Socket {
    if (this.#closed) throw new Error('the instance is gone');
    const address = this.#address;
    if (address.kind === 'tcp')
      return netConnect({
        host: address.host,
        port: address.port,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
      });
    if (process.platform !== 'linux') return netConnect({ path: address.path });
    this.#handle ??= openSocket(address.path);
    return netConnect({ path: `/proc/self/fd/${this.#handle}` });
  }

  /** For undici: its own connector would follow the path. */
  readonly #connect: buildConnector.connector = (_options, callback) => {
    let socket: Socket;
    try {
      socket = this.#dial();
    } catch (error) {
      // Not in the same tick: undici is still inside its dispatch.
      queueMicrotask(() => callback(new ConnectError(messageOf(error), { cause: error }), null));
      return;
    }
    const onError = (error: Error) => {
      cancelTimeout();
      callback(new ConnectError(error.message, { cause: error }), null);
    };
    const cancelTimeout = this.#clock.after(CONNECT_TIMEOUT_MS, () =>
      socket.destroy(new Error(`no connection within ${CONNECT_TIMEOUT_MS} ms`)),
    );
    socket.once('error', onError);
    socket.once('connect', () => {
      cancelTimeout();
      socket.off('error', onError);
      callback(null, socket);
    });
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
