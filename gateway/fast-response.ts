/**
 * Answers to requests of the fast path (fast-request.ts): as Node's ServerResponse writes them, byte for byte but for the order of
 * headers, with what most of them need: one write, no stream, no event.
 */
import type { Socket } from 'node:net';
import type { ClientResponse, OpenRequest } from './context.ts';

/** What a header may be made of (RFC 9110, 5.5 and 5.6.2). */
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const NO_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
/** Chunks up to this become text with what frames them, bytes: one piece instead of three. */
const ONE_PIECE_BYTES = 16 * 1_024;

/** A date as HTTP writes it (RFC 9110, 5.6.7); made once a second. */
class HttpDate {
  #text = '';
  #until = 0;

  line(): string {
    const now = Date.now();
    if (now >= this.#until || now < this.#until - 1_000) {
      this.#text = `Date: ${new Date(now).toUTCString()}\r\n`;
      this.#until = now - (now % 1_000) + 1_000;
    }
    return this.#text;
  }
}

const date = new HttpDate();

const hasNoBody = (status: number): boolean => status === 204 || status === 304;

export interface FastResponseOwner {
  readonly socket: Socket;
  /** What is said with an answer after which the connection is kept: its header lines. */
  readonly keepAliveLines: string;
  /** The answer is out, all of it; `keep`: the connection may be used again. */
  onAnswered(keep: boolean): void;
}

export class FastResponse implements ClientResponse {
  request: OpenRequest | null = null;
  readonly upgrade = null;
  shouldKeepAlive = true;
  chunkedEncoding = false;
  writableFinished = false;
  headersSent = false;
  readonly #owner: FastResponseOwner;
  readonly #isHead: boolean;
  /** Not written yet. */
  #head = '';
  #bodiless = false;
  #corked = false;
  #ended = false;

  constructor(owner: FastResponseOwner, isHead: boolean) {
    this.#owner = owner;
    this.#isHead = isHead;
  }

  get destroyed(): boolean {
    return this.#owner.socket.destroyed;
  }

  /** `request` hears of the end of the answer, or of the connection. */
  watchedBy(request: OpenRequest): void {
    this.request = request;
  }

  /** Throws where a header has bytes that have no place in one; then nothing is kept of it. */
  writeHead(status: number, reason: string, flat: readonly string[]): this {
    let lines = '';
    let framed = false;
    let dated = false;
    let keep = this.shouldKeepAlive;
    let told = false;
    for (let i = 0; i < flat.length; i += 2) {
      const name = flat[i]!;
      const value = flat[i + 1]!;
      if (!NAME.test(name) || NO_VALUE.test(value)) throw new TypeError('a character that has no place in a header');
      lines += `${name}: ${value}\r\n`;
      if (name === 'content-length') framed = true;
      else if (name === 'date') dated = true;
      else if (name === 'connection') {
        told = true;
        keep &&= value !== 'close';
      }
    }
    this.#bodiless = this.#isHead || hasNoBody(status);
    this.chunkedEncoding = !framed && !this.#bodiless;
    this.shouldKeepAlive = keep;
    this.headersSent = true;
    const connection = told ? '' : keep ? this.#owner.keepAliveLines : 'Connection: close\r\n';
    const coding = this.chunkedEncoding ? 'Transfer-Encoding: chunked\r\n\r\n' : '\r\n';
    this.#head = `HTTP/1.1 ${status} ${reason}\r\n${lines}${dated ? '' : date.line()}${connection}${coding}`;
    return this;
  }

  flushHeaders(): void {
    this.#writePieces();
  }

  /** False where the client does not take what there is: `onDrain` tells when it does. */
  write(chunk: Buffer | string): boolean {
    if (this.#ended || this.destroyed || this.#bodiless || chunk.length === 0) return true;
    return this.#writePieces(typeof chunk === 'string' ? Buffer.from(chunk) : chunk);
  }

  /** What is written in one turn goes out in one go. */
  #cork(): void {
    if (this.#corked) return;
    const { socket } = this.#owner;
    this.#corked = true;
    socket.cork();
    process.nextTick(() => {
      this.#corked = false;
      socket.uncork();
    });
  }

  #writePieces(chunk: Buffer | null = null): boolean {
    const { socket } = this.#owner;
    const head = this.#head;
    this.#head = '';
    if (chunk === null) return head === '' || socket.write(head, 'latin1');
    this.#cork();
    const size = this.chunkedEncoding ? `${chunk.length.toString(16)}\r\n` : '';
    const end = this.chunkedEncoding ? '\r\n' : '';
    if (chunk.length <= ONE_PIECE_BYTES) return socket.write(head + size + chunk.toString('latin1') + end, 'latin1');
    if (head !== '' || size !== '') socket.write(head + size, 'latin1');
    const more = socket.write(chunk);
    return end === '' ? more : socket.write(end, 'latin1');
  }

  /** `text` is of one byte a character. */
  end(chunk?: Buffer | string, encoding?: 'latin1'): this {
    if (this.#ended) return this;
    const { socket } = this.#owner;
    const last = this.chunkedEncoding ? '0\r\n\r\n' : '';
    if (this.destroyed) {
      // Its end is told by the connection's.
      this.#ended = true;
      return this;
    }
    if (typeof chunk === 'string' && encoding === 'latin1' && !this.chunkedEncoding) {
      socket.write(this.#bodiless ? this.#head : this.#head + chunk, 'latin1');
      this.#head = '';
    } else {
      if (chunk !== undefined) this.write(typeof chunk === 'string' && encoding === 'latin1' ? Buffer.from(chunk, 'latin1') : chunk);
      if (this.#head !== '' || last !== '') socket.write(this.#head + last, 'latin1');
      this.#head = '';
    }
    this.#ended = true;
    // Most are with the kernel by now. Where not, an empty write comes back when they are.
    if (socket.writableLength === 0) this.#finished();
    else socket.write('', () => this.#finished());
    return this;
  }

  #finished(): void {
    if (this.destroyed) return;
    this.writableFinished = true;
    this.#owner.onAnswered(this.shouldKeepAlive);
  }

  onDrain(then: () => void): void {
    this.#owner.socket.once('drain', then);
  }

  /** Nobody asked for it: a request that expects 100 is not of the fast path. */
  writeContinue(): void {}
}
