/**
 * A connection to an instance: one request at a time, dialled when it is needed and again when it was closed. What it
 * costs is paid by every request, so nothing is made per request that can be kept: bytes are read into one piece of
 * memory for all connections, and what comes is looked at before anything else can come.
 *
 * A request on a connection that was idle goes out at the end of the turn of the event loop: what the instance had
 * written to it unasked is seen first, and then the connection is another one. So it cannot be taken for the answer
 * (response queue poisoning). All requests of a turn go out together, which wakes the instance once.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type BodyWriter, type InstanceRequest, writeRequest } from './request-writer.ts';
import { ResponseError } from './response-lines.ts';
import { ResponseParser } from './response-parser.ts';

/** As much is read at a time, bytes. */
const READ_BYTES = 64 * 1_024;
/** Sockets of all connections read into it, one after the other: whoever keeps bytes copies them. */
const READ_BUFFER = Buffer.allocUnsafeSlow(READ_BYTES);

/** This process, or this host, has as many files open as it may: that says nothing of the instance. */
const OUT_OF_FILES: ReadonlySet<unknown> = new Set(['EMFILE', 'ENFILE']);

/** No connection came about; not a byte of a request was sent. */
export class ConnectError extends Error {
  /** Is it not the instance that keeps it from coming about, but this process? */
  readonly own: boolean;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ConnectError';
    const { cause } = this;
    this.own = cause instanceof Error && 'code' in cause && OUT_OF_FILES.has(cause.code);
  }
}

/** Whose request it is. One of onEnd, onUpgrade and onError is called, once, unless it was aborted. */
export interface ResponseHandler {
  /** There is a connection, and the request goes out on it. */
  onSending(): void;
  /** A head, also of a hint (102 to 199). */
  onHead(status: number, reason: string, headers: string[]): void;
  /** Of the body. Good only until it returns. */
  onData(chunk: Buffer): void;
  /** Everything that has come was told, and more of the response is to come. */
  onQuiet(): void;
  onEnd(): void;
  /** 101, where that was asked for. The socket is the handler's. */
  onUpgrade(headers: string[], socket: Duplex): void;
  /** `ConnectError`: nothing was sent. `ResponseError`: what came is no response. Any other: the connection broke. */
  onError(error: Error): void;
}

/** Where connections belong. */
export interface ConnectionOwner {
  /**
   * Dials. The bytes that come go to `onBytes`, which has one piece of memory for all; where there is none, as for what is to be
   * upgraded, they are the socket's own. Throws where it cannot be dialled.
   */
  dial(read: { buffer: Buffer; onBytes: (length: number) => void } | null): Socket;
  /** Runs after the limit for connecting. */
  afterConnectTimeout(run: (message: string) => void): () => void;
  /** It is closed, or will not be used again. */
  onClosed(connection: InstanceConnection): void;
}

/** Requests that go out at the end of this turn. */
let due: InstanceConnection[] = [];

function sendDue(): void {
  const now = due;
  due = [];
  for (const connection of now) connection.sendNow();
}

export class InstanceConnection {
  /** When it is to be closed if it is idle until then, monotonic ms. The owner's. */
  idleUntil = 0;
  readonly #owner: ConnectionOwner;
  readonly #parser: ResponseParser;
  #socket: Socket | null = null;
  #connected = false;
  #handler: ResponseHandler | null = null;
  /** That is to be sent; null when it is on its way. */
  #request: InstanceRequest | null = null;
  #body: BodyWriter | null = null;
  #closed = false;
  #paused = false;
  #keepAliveMs = -1;

  constructor(owner: ConnectionOwner) {
    this.#owner = owner;
    this.#parser = new ResponseParser(this);
  }

  /** May it be used for another request? */
  get usable(): boolean {
    return !this.#closed && this.#handler === null;
  }

  /** How long the instance said that it keeps it, ms; −1: it said nothing. */
  get keepAliveMs(): number {
    return this.#keepAliveMs;
  }

  send(request: InstanceRequest, handler: ResponseHandler): void {
    this.#handler = handler;
    this.#request = request;
    if (this.#socket === null) this.#dial(request.upgrade !== null);
    else if (due.push(this) === 1) setImmediate(sendDue);
  }

  /** Nobody waits for the response any more: the connection is cut. Nothing is called after it. */
  abort(): void {
    this.#handler = null;
    this.close();
  }

  /** Ends it; who waits for a response is told. Idempotent. */
  close(reason = new Error('the connection is closed')): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#parser.stop();
    const socket = this.#socket;
    this.#socket = null;
    socket?.destroy();
    this.#stopBody();
    this.#dropRequest();
    this.#owner.onClosed(this);
    this.#fail(reason);
  }

  pause(): void {
    this.#paused = true;
    this.#socket?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#socket?.resume();
  }

  /** Called at the end of the turn in which it was to be sent. */
  sendNow(): void {
    // Aborted; or it was closed meanwhile, and is being dialled again.
    if (this.#request === null || this.#closed || !this.#connected) return;
    const request = this.#request;
    this.#request = null;
    this.#parser.expect(request.method, request.upgrade !== null);
    this.#handler!.onSending();
    // Whoever hears that may have left.
    if (this.#socket !== null) this.#body = writeRequest(this.#socket, request, this);
  }

  #dial(plain: boolean): void {
    const read = plain ? null : { buffer: READ_BUFFER, onBytes: (length: number) => this.#onBytes(READ_BUFFER.subarray(0, length)) };
    let socket: Socket;
    try {
      socket = this.#owner.dial(read);
    } catch (error) {
      // Not in the same call: its owner is still about to send.
      queueMicrotask(() => this.#closedBy(new ConnectError(messageOf(error), { cause: error })));
      return;
    }
    this.#socket = socket;
    this.#connected = false;
    const cancel = this.#owner.afterConnectTimeout((message) => socket.destroy(new Error(message)));
    let failure: Error | null = null;
    socket.on('connect', () => {
      cancel();
      if (socket !== this.#socket) return;
      this.#connected = true;
      this.sendNow();
    });
    if (plain) socket.on('data', this.#onPlainBytes);
    socket.on('end', () => socket === this.#socket && this.#onEnd());
    socket.on('error', (error) => (failure = error));
    socket.on('close', () => {
      cancel();
      if (socket === this.#socket) this.#onClose(failure);
    });
  }

  readonly #onPlainBytes = (chunk: Buffer): void => this.#onBytes(chunk);

  #onBytes(chunk: Buffer): void {
    if (this.#closed) return;
    if (this.#request !== null) {
      // Unasked, before the request went out: it goes on another connection.
      this.#redial();
      return;
    }
    try {
      this.#parser.push(chunk);
      this.#handler?.onQuiet();
    } catch (error) {
      if (!(error instanceof ResponseError)) throw error;
      this.#closedBy(error);
    }
  }

  /** The instance has closed its end. */
  #onEnd(): void {
    if (this.#request !== null) this.#redial();
    else if (!this.#parser.end()) this.#closedBy(new Error('other side closed'));
  }

  #onClose(failure: Error | null): void {
    if (this.#request === null) this.#closedBy(failure ?? new Error('other side closed'));
    else if (this.#connected) this.#redial();
    else this.#closedBy(new ConnectError(failure?.message ?? 'the connection was closed', { cause: failure }));
  }

  /** It was idle and is gone, and the request has not been sent. */
  #redial(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.destroy();
    this.#dial(this.#request!.upgrade !== null);
  }

  #closedBy(error: Error): void {
    this.close(error);
  }

  #fail(error: Error): void {
    const handler = this.#handler;
    this.#handler = null;
    handler?.onError(error);
  }

  /** It was not sent. What its body still gets would be missing where that is opened again: it gets no more. */
  #dropRequest(): void {
    const body = this.#request?.body ?? null;
    this.#request = null;
    if (body !== null && !Buffer.isBuffer(body)) body.destroy();
  }

  #stopBody(): void {
    const body = this.#body;
    this.#body = null;
    body?.stop();
  }

  // As the reader of the parser.

  onHead(status: number, reason: string, headers: string[]): void {
    this.#handler?.onHead(status, reason, headers);
  }

  onData(chunk: Buffer): void {
    this.#handler?.onData(chunk);
  }

  onEnd(reusable: boolean, keepAliveMs: number): void {
    const handler = this.#handler;
    this.#handler = null;
    this.#keepAliveMs = keepAliveMs;
    // An answer before all of the request was sent: nobody could tell where the next one begins.
    if (!reusable || (this.#body !== null && !this.#body.complete)) this.close();
    this.#body = null;
    // Whoever had it pause has all there is, and will not say that it may go on: the next answer, or the end, would not be read.
    if (this.#paused) this.resume();
    handler?.onEnd();
  }

  onUpgrade(headers: string[], rest: Buffer): void {
    const handler = this.#handler!;
    const socket = this.#socket!;
    this.#handler = null;
    this.#socket = null;
    socket.off('data', this.#onPlainBytes);
    socket.pause();
    if (rest.length > 0) socket.unshift(rest);
    this.close();
    handler.onUpgrade(headers, socket);
  }

  // As the owner of the body that is sent.

  onBodyBroken(error: Error): void {
    this.close(error);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
