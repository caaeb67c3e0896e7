/** Writes a request to an instance, HTTP/1.1 (RFC 9112). Head and body go out in one write where the body is here. */
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';

/** Bodies up to this go into one piece of memory with their head, bytes; longer ones are not copied. */
const ONE_PIECE_BYTES = 16 * 1_024;

/** What is sent. */
export interface InstanceRequest {
  method: string;
  /** Origin-form. */
  path: string;
  /** Lower-case name, value, …; none that frames the message or is about the connection. */
  headers: readonly string[];
  body: Buffer | Readable | null;
  /** Of a stream: its declared length, or −1 for chunks. */
  bodyLength: number;
  upgrade: 'websocket' | null;
}

/** By these a request without a body says that it has none. */
const WITH_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'QUERY', 'PROPFIND', 'PROPPATCH']);

function headOf({ method, path, headers, body, bodyLength, upgrade }: InstanceRequest): string {
  let head = `${method} ${path} HTTP/1.1\r\n`;
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  if (Buffer.isBuffer(body)) head += `content-length: ${body.length}\r\n`;
  else if (body !== null) head += bodyLength >= 0 ? `content-length: ${bodyLength}\r\n` : 'transfer-encoding: chunked\r\n';
  else if (WITH_BODY.has(method)) head += 'content-length: 0\r\n';
  if (upgrade !== null) return `${head}connection: upgrade\r\nupgrade: ${upgrade}\r\n\r\n`;
  // After HEAD the connection is not used again: see response-parser.ts. Else it is kept, as HTTP/1.1 has it where nothing is said.
  return head + (method === 'HEAD' ? 'connection: close\r\n\r\n' : '\r\n');
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** What may not be in a value, and what may not be in a path. */
const NOT_IN_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const NOT_IN_PATH = /[^\x21-\x7e\x80-\xff]/;
/** What the writer says itself. */
const OWN: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/**
 * Why this cannot be written as it is; null: it can. For what did not come through an HTTP parser, which has seen to it:
 * a line end within a value would be the begin of another header, or of another request.
 */
export function faultOf({ method, path, headers }: Pick<InstanceRequest, 'method' | 'path' | 'headers'>): string | null {
  if (!TOKEN.test(method)) return 'the method is none';
  if (!path.startsWith('/') || NOT_IN_PATH.test(path)) return 'the path holds a character that has no place in one';
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    if (!TOKEN.test(name)) return 'the name of a header holds a character that has no place in one';
    if (NOT_IN_VALUE.test(headers[i + 1] ?? '')) return `the header ${name} holds a character that has no place in one`;
    if (OWN.has(name.toLowerCase())) return `the header ${name} is not for the sender to set`;
  }
  return null;
}

/** Null: all of it is written. Otherwise its body is still on its way. */
export function writeRequest(socket: Socket, request: InstanceRequest, owner: BodyWriterOwner): BodyWriter | null {
  const head = headOf(request);
  const { body } = request;
  if (body === null || (Buffer.isBuffer(body) && body.length === 0)) {
    socket.write(head, 'latin1');
    return null;
  }
  if (Buffer.isBuffer(body)) {
    writeWhole(socket, head, body);
    return null;
  }
  return new BodyWriter(socket, head, body, request.bodyLength, owner);
}

function writeWhole(socket: Socket, head: string, body: Buffer): void {
  if (body.length > ONE_PIECE_BYTES) {
    socket.cork();
    socket.write(head, 'latin1');
    socket.write(body);
    socket.uncork();
    return;
  }
  const piece = Buffer.allocUnsafe(head.length + body.length);
  piece.write(head, 0, head.length, 'latin1');
  body.copy(piece, head.length);
  socket.write(piece);
}

export interface BodyWriterOwner {
  /** The stream did not hold what was declared, or broke: what has been sent is no request. */
  onBodyBroken(error: Error): void;
}

function uncork(socket: Socket): void {
  socket.uncork();
}

/** A body that comes bit by bit, as fast as the instance reads it. */
export class BodyWriter {
  readonly #socket: Socket;
  readonly #body: Readable;
  readonly #length: number;
  readonly #owner: BodyWriterOwner;
  #sent = 0;
  #state: 'writing' | 'complete' | 'stopped' = 'writing';

  constructor(socket: Socket, head: string, body: Readable, length: number, owner: BodyWriterOwner) {
    this.#socket = socket;
    this.#body = body;
    this.#length = length;
    this.#owner = owner;
    // What is here of the body already comes in this turn, and goes out with the head.
    socket.cork();
    socket.write(head, 'latin1');
    socket.on('drain', this.#onDrain);
    body.on('data', this.#onData);
    body.on('end', this.#onEnd);
    body.on('error', this.#onError);
    process.nextTick(uncork, socket);
  }

  get complete(): boolean {
    return this.#state === 'complete';
  }

  readonly #onDrain = (): void => void this.#body.resume();

  readonly #onData = (chunk: Buffer): void => {
    const socket = this.#socket;
    this.#sent += chunk.length;
    if (this.#length >= 0) {
      if (this.#sent > this.#length) this.#onError(new Error('the body is longer than was declared'));
      else if (!socket.write(chunk)) this.#body.pause();
      return;
    }
    if (chunk.length === 0) return;
    socket.cork();
    socket.write(`${chunk.length.toString(16)}\r\n`, 'latin1');
    socket.write(chunk);
    const more = socket.write('\r\n', 'latin1');
    socket.uncork();
    if (!more) this.#body.pause();
  };

  readonly #onEnd = (): void => {
    if (this.#length >= 0 && this.#sent !== this.#length) {
      this.#onError(new Error('the body is shorter than was declared'));
      return;
    }
    this.#state = 'complete';
    this.#unlisten();
    if (this.#length < 0) this.#socket.write('0\r\n\r\n', 'latin1');
  };

  readonly #onError = (error: Error): void => {
    if (this.#state !== 'writing') return;
    this.stop();
    this.#owner.onBodyBroken(error);
  };

  #unlisten(): void {
    this.#socket.off('drain', this.#onDrain);
    this.#body.off('data', this.#onData);
    this.#body.off('end', this.#onEnd);
  }

  /** What is left is not sent. Idempotent. */
  stop(): void {
    if (this.#state !== 'writing') return;
    this.#state = 'stopped';
    this.#unlisten();
    this.#body.destroy();
  }
}
