/**
 * Connections to one instance, at most one request at a time on each, the most recently used first so that the
 * others can close.
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
import type { Address } from '#contract/runtime.ts';
import type { Clock } from '#kit/clock.ts';
import type { Connection } from './demand.ts';
import { type ConnectionOwner, InstanceConnection } from './instance-connection.ts';

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
/** An open handle on the socket that was at the path, without following a link. Throws where it is none. */
function openSocket(path: string): number {
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  if (fstatSync(fd).isSocket()) return fd;
  closeSync(fd);
  throw new Error('what is at the path of the instance is not a socket');
}

export class Upstream implements Connection, ConnectionOwner {
  readonly #address: Address;
  readonly #clock: Clock;
  /** Hears that it cannot be reached, though requests are in flight. Once per look. */
  readonly #onUnreachable: (reason: string) => void;
  readonly #connections = new Set<InstanceConnection>();
  /** The one used last is on top. May hold closed ones, skipped when met. */
  readonly #idle: InstanceConnection[] = [];
  /** Connections that have become WebSockets: they are the tunnels'. */
  readonly #upgraded = new Set<Duplex>();
  /** O_PATH handle of a unix socket, once it was dialled. */
  #handle: number | null = null;
  #closed = false;
  /** Connections that are in use. */
  #busy = 0;
  /** Whether a request has ended since the last look. */
  #ended = false;
  /** Is it looked at every few seconds? Never on a unix socket: this host knows of its processes. */
  #looking: boolean;
  #cancelLook: () => void = () => {};
  #probe: Socket | null = null;
  /** When idle connections are looked at next, monotonic ms. */
  #sweepAt = Number.POSITIVE_INFINITY;
  #cancelSweep: () => void = () => {};

  constructor(address: Address, clock: Clock, onUnreachable: (reason: string) => void) {
    this.#address = address;
    this.#clock = clock;
    this.#onUnreachable = onUnreachable;
    this.#looking = address.kind === 'unix';
  }

  /** A connection that nobody uses. Give it back with `release`. `fresh`: one that was not used before. */
  acquire(fresh = false): InstanceConnection {
    this.#busy++;
    if (!this.#looking) this.#lookLater();
    for (let idle = fresh ? undefined : this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.usable) return idle;
    }
    const connection = new InstanceConnection(this);
    this.#connections.add(connection);
    return connection;
  }

  release(connection: InstanceConnection): void {
    this.#busy--;
    this.#ended = true;
    if (this.#closed || !connection.usable) return;
    const now = this.#clock.now();
    const { keepAliveMs } = connection;
    const idleMs = keepAliveMs < 0 ? IDLE_TIMEOUT_MS : Math.min(keepAliveMs - IDLE_TIMEOUT_THRESHOLD_MS, IDLE_TIMEOUT_MAX_MS);
    if (idleMs <= 0) {
      connection.close();
      return;
    }
    connection.idleUntil = now + idleMs;
    this.#idle.push(connection);
    if (connection.idleUntil < this.#sweepAt) this.#sweepLater(connection.idleUntil, now);
  }

  /** One timer for all, which is not moved when a connection is used. */
  #sweepLater(at: number, now: number): void {
    this.#cancelSweep();
    this.#sweepAt = at;
    this.#cancelSweep = this.#clock.after(at - now, () => this.#sweep());
  }

  #sweep(): void {
    const now = this.#clock.now();
    let next = Number.POSITIVE_INFINITY;
    let kept = 0;
    const over: InstanceConnection[] = [];
    for (const connection of this.#idle) {
      if (!connection.usable) continue;
      if (connection.idleUntil <= now) {
        over.push(connection);
        continue;
      }
      this.#idle[kept++] = connection;
      next = Math.min(next, connection.idleUntil);
    }
    this.#idle.length = kept;
    this.#sweepAt = Number.POSITIVE_INFINITY;
    if (next !== Number.POSITIVE_INFINITY) this.#sweepLater(next, now);
    for (const connection of over) connection.close();
  }

  // As the owner of connections.

  onClosed(connection: InstanceConnection): void {
    this.#connections.delete(connection);
  }

  afterConnectTimeout(run: (message: string) => void): () => void {
    return this.#clock.after(CONNECT_TIMEOUT_MS, () => run(`no connection within ${CONNECT_TIMEOUT_MS} ms`));
  }

  /** It is no connection for requests any more, and ends with the instance all the same. */
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
    this.#cancelSweep();
    const reason = new Error('the instance is gone');
    for (const connection of [...this.#connections]) connection.close(reason);
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
    const probe = this.dial(null);
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

  dial(read: { buffer: Buffer; onBytes: (length: number) => void } | null): Socket {
    if (this.#closed) throw new Error('the instance is gone');
    const address = this.#address;
    const onread = read === null ? {} : { onread: { buffer: read.buffer, callback: (length: number) => (read.onBytes(length), true) } };
    if (address.kind === 'tcp')
      return netConnect({
        host: address.host,
        port: address.port,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
        ...onread,
      });
    if (process.platform !== 'linux') return netConnect({ path: address.path, ...onread });
    this.#handle ??= openSocket(address.path);
    return netConnect({ path: `/proc/self/fd/${this.#handle}`, ...onread });
  }
}
