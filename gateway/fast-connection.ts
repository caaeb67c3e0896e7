/**
 * A client's connection as long as all that comes on it is as simple as nearly all is (fast-request.ts): it costs a fraction of
 * what Node's HTTP server does for a request. At the first packet that is anything else the connection becomes that server's,
 * with every byte that nobody has answered, and stays so.
 */
import type { Socket } from 'node:net';
import type { ClientConnection } from './context.ts';
import { type FastRequest, readFastRequest } from './fast-request.ts';
import { FastResponse, type FastResponseOwner } from './fast-response.ts';
import type { RequestHead } from './headers.ts';

/** What a client may send ahead of an answer, bytes; more is left in its socket. */
const MAX_EARLY_BYTES = 64 * 1_024;

export interface FastPathOptions {
  connectionOf(socket: Socket): ClientConnection;
  /** Begins it; false where it is for somebody else than a function, and nothing was done. */
  serve(connection: ClientConnection, incoming: FastRequest, outgoing: FastResponse, head: RequestHead): boolean;
  /** From here on it is Node's. */
  handOver(socket: Socket): void;
  keepAliveTimeoutMs: number;
  /** Until the first byte comes. */
  headersTimeoutMs: number;
}

class FastConnection implements FastResponseOwner {
  readonly socket: Socket;
  readonly #path: FastPath;
  readonly #connection: ClientConnection;
  #answering: FastResponse | null = null;
  /** What came while a request was being answered. */
  #early: Buffer[] = [];
  #earlyBytes = 0;
  /** How often it was looked at since it became idle. */
  idleLooks = 0;
  #used = false;

  constructor(socket: Socket, path: FastPath) {
    this.socket = socket;
    this.#path = path;
    this.#connection = path.options.connectionOf(socket);
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('error', this.#onError);
    socket.on('close', this.#onClose);
  }

  get keepAliveLines(): string {
    return this.#path.keepAliveLines;
  }

  get idle(): boolean {
    return this.#answering === null;
  }

  /** How long it may be idle, ms. */
  get idleMs(): number {
    const { keepAliveTimeoutMs, headersTimeoutMs } = this.#path.options;
    return this.#used ? keepAliveTimeoutMs : headersTimeoutMs;
  }

  readonly #onData = (chunk: Buffer): void => {
    // Its end is settled, and comes a turn later: what is here before that is read by nobody.
    if (this.#connection.closing) return;
    if (this.#answering !== null) {
      this.#hold(chunk);
      return;
    }
    const read = readFastRequest(this.socket, chunk, this.#connection.trusted);
    if (read === null) {
      this.#handOver(chunk);
      return;
    }
    const { incoming, head } = read;
    const outgoing = new FastResponse(this, incoming.method === 'HEAD');
    this.#answering = outgoing;
    this.#used = true;
    if (this.#path.options.serve(this.#connection, incoming, outgoing, head)) return;
    this.#answering = null;
    this.#handOver(chunk);
  };

  /** It is read when the one before it is answered. */
  #hold(chunk: Buffer): void {
    this.#early.push(chunk);
    this.#earlyBytes += chunk.length;
    if (this.#earlyBytes > MAX_EARLY_BYTES) this.socket.pause();
  }

  onAnswered(keep: boolean): void {
    const request = this.#answering?.request;
    this.#answering = null;
    this.idleLooks = 0;
    if (!keep) {
      this.#connection.closing = true;
      this.#early = [];
    }
    request?.onClose();
    if (!keep) this.socket.destroySoon();
    // Of a client that has ended his side nothing more is answered.
    else if (this.#early.length > 0 && !this.socket.writableEnded) this.#handOver(Buffer.concat(this.#early));
  }

  #handOver(rest: Buffer): void {
    const { socket } = this;
    this.#early = [];
    this.#path.connections.delete(this);
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('error', this.#onError);
    socket.off('close', this.#onClose);
    if (socket.destroyed) return;
    socket.pause();
    socket.unshift(rest);
    this.#path.options.handOver(socket);
    socket.resume();
  }

  /** As Node's server has it: who ends his side has no use for an answer. */
  readonly #onEnd = (): void => void this.socket.end();

  readonly #onError = (): void => void this.socket.destroy();

  readonly #onClose = (): void => {
    this.#path.connections.delete(this);
    this.#answering?.request?.onClose();
    this.#answering = null;
    this.#early = [];
  };
}

/** How often it is looked for connections that have been idle for too long, ms: by so much they may stay longer. */
const LOOK_EVERY_MS = 1_000;

/** All connections that are on it. */
export class FastPath {
  readonly options: FastPathOptions;
  readonly keepAliveLines: string;
  readonly connections = new Set<FastConnection>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: FastPathOptions) {
    this.options = options;
    this.keepAliveLines = `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(options.keepAliveTimeoutMs / 1_000)}\r\n`;
  }

  take(socket: Socket): void {
    this.connections.add(new FastConnection(socket, this));
    this.#timer ??= setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  #look(): void {
    for (const connection of this.connections)
      // The first look comes within its time, and one more is for a request that is on its way when the time is over.
      if (connection.idle && (++connection.idleLooks - 2) * LOOK_EVERY_MS >= connection.idleMs) connection.socket.destroy();
    if (this.connections.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  closeIdle(): void {
    for (const connection of this.connections) if (connection.idle) connection.socket.destroy();
  }

  closeAll(): void {
    for (const connection of this.connections) connection.socket.destroy();
  }
}
