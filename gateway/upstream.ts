/**
 * Connections to one instance: one undici Client each, at most one request at a time on it, the most
 * recently used first so that the others can close. A Client re-connects by itself.
 *
 * Where the instance listens on a unix socket, the path is opened once, O_PATH and O_NOFOLLOW, must
 * be a socket, and /proc/self/fd/N is dialled from then on: what the function may later put at that
 * path (a link to the Docker socket, say) is never looked at.
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

/** Time for a connection to come about. A unix socket answers at once, a pod in its cluster within this. */
export const CONNECT_TIMEOUT_MS = 2_000;
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
  readonly #clients = new Set<Client>();
  readonly #idle: Client[] = [];
  /** Connections that have become WebSockets: no client knows of them any more. */
  readonly #upgraded = new Set<Duplex>();
  /** O_PATH handle of a unix socket, once it was dialled. */
  #handle: number | null = null;
  #closed = false;

  constructor(address: Address, clock: Clock) {
    this.#address = address;
    this.#clock = clock;
  }

  /** A client that nobody uses. Give it back with `release`. */
  acquire(): Client {
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
    const reason = new Error('the instance is gone');
    // Its promise has no news: requests on it are told by their handlers.
    for (const client of this.#clients) void client.destroy(reason);
    this.#clients.clear();
    for (const socket of this.#upgraded) socket.destroy();
    this.#idle.length = 0;
    if (this.#handle !== null) closeSync(this.#handle);
    this.#handle = null;
  }

  #dial(): Socket {
    if (this.#closed) throw new Error('the instance is gone');
    const address = this.#address;
    if (address.kind === 'tcp') return netConnect({ host: address.host, port: address.port, noDelay: true, keepAlive: true });
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
