/**
 * Reads the responses of an instance, HTTP/1.1 (RFC 9112) and 1.0, one at a time. A function can write to that
 * connection what it likes, so this is strict: what two programs could read in two ways is an error, and after an
 * error nothing is read any more. It holds no more than one head; bodies are passed on as they come.
 *
 * Most heads come whole, in one piece with the body: those are read in one go over a string. What comes in parts is
 * kept until the head is whole.
 */
import {
  badChunk,
  checkExtensions,
  checkTrailers,
  CONNECTION,
  CONTENT_LENGTH,
  digit,
  endOfReason,
  endOfValue,
  lineEnd,
  MAX_RESPONSE_HEADERS,
  nameOf,
  notHttp,
  OTHER,
  ResponseError,
  statusOf,
  TRANSFER_ENCODING,
  trimmed,
  VERSION,
} from './response-lines.ts';

/** Longest head of a response, bytes; as long may be the trailers. */
export const MAX_RESPONSE_HEADER_BYTES = 64 * 1_024;
/** Longest line that says how long a chunk is, extensions included, bytes. */
const MAX_CHUNK_LINE_BYTES = 4_096;
/** Hex digits of a chunk's length: 2^52 bytes. */
const MAX_CHUNK_DIGITS = 13;

const LF = 10;
const CR = 13;

const END = Buffer.from('\r\n\r\n', 'latin1');
const LENGTH = /^[0-9]{1,15}$/;

/** Who asked. What it does in a call may end the reading (`stop`). */
export interface ResponseReader {
  /** A head, also of a hint (102 to 199). Headers are lower-case name, value, … in their order. */
  onHead(status: number, reason: string, headers: string[]): void;
  /** 101, where that was asked for. `rest`: what came behind it. */
  onUpgrade(headers: string[], rest: Buffer): void;
  /** Of the body. Good only until it returns: the memory is used again. */
  onData(chunk: Buffer): void;
  /** `reusable`: nothing came behind it, and the connection stays open. `keepAliveMs`: for so long, where that was said; else −1. */
  onEnd(reusable: boolean, keepAliveMs: number): void;
}

type State = 'idle' | 'head' | 'length' | 'close' | 'chunk-line' | 'chunk' | 'chunk-end' | 'trailers' | 'stopped';

export class ResponseParser {
  readonly #reader: ResponseReader;
  #state: State = 'idle';
  #method = '';
  #upgrade = false;
  /** Of a head, a line or trailers that came in parts. */
  #held: Buffer | null = null;
  #heldBytes = 0;
  /** Bytes that are left of the body, or of the chunk. */
  #left = 0;
  #keepAlive = true;
  #keepAliveMs = -1;
  // Of the head that is read.
  #contentLength = -1;
  #chunked = false;

  constructor(reader: ResponseReader) {
    this.#reader = reader;
  }

  /** A request goes out: the next response is to it. What was asked decides how that ends. */
  expect(method: string, upgrade: boolean): void {
    this.#state = 'head';
    this.#method = method;
    this.#upgrade = upgrade;
    this.#keepAliveMs = -1;
  }

  /** Nothing is read any more. */
  stop(): void {
    this.#state = 'stopped';
    this.#held = null;
    this.#heldBytes = 0;
  }

  /** Throws ResponseError; it has stopped then. */
  push(chunk: Buffer): void {
    try {
      this.#push(chunk);
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  #push(chunk: Buffer): void {
    let at = 0;
    const end = chunk.length;
    while (at < end) {
      switch (this.#state) {
        case 'head':
          at = this.#readHead(chunk, at);
          break;
        case 'length':
        case 'chunk': {
          const till = Math.min(end, at + this.#left);
          this.#left -= till - at;
          const part = at === 0 && till === end ? chunk : chunk.subarray(at, till);
          at = till;
          this.#reader.onData(part);
          if (this.#left === 0) this.#partEnded(at === end);
          break;
        }
        case 'close':
          this.#reader.onData(at === 0 ? chunk : chunk.subarray(at));
          return;
        case 'chunk-line':
        case 'chunk-end':
          at = this.#readLine(chunk, at);
          break;
        case 'trailers':
          at = this.#readTrailers(chunk, at);
          break;
        case 'stopped':
          return;
        case 'idle':
          throw new ResponseError('the response is an answer to something that was not asked');
      }
    }
  }

  /** The instance has closed its end. True where that ends the response in order; otherwise it was under way. */
  end(): boolean {
    if (this.#state !== 'close') return false;
    this.#complete(false);
    return true;
  }

  /** All of the body, or of a chunk, is there. */
  #partEnded(nothingBehind: boolean): void {
    if (this.#state === 'chunk') this.#state = 'chunk-end';
    else if (this.#state === 'length') this.#complete(nothingBehind);
  }

  #complete(nothingBehind: boolean): void {
    const reusable = nothingBehind && this.#keepAlive;
    this.#state = reusable ? 'idle' : 'stopped';
    this.#reader.onEnd(reusable, this.#keepAliveMs);
  }

  // The head.

  #readHead(chunk: Buffer, at: number): number {
    if (this.#held === null) {
      const found = chunk.indexOf(END, at);
      if (found >= 0) {
        const after = found + END.length;
        if (after - at > MAX_RESPONSE_HEADER_BYTES) throw new ResponseError('the headers of the response are too large');
        return this.#onHead(chunk.toString('latin1', at, found + 2), chunk, after);
      }
    }
    const { text, after } = this.#collect(chunk, at, MAX_RESPONSE_HEADER_BYTES, 'the headers of the response are too large');
    return text === null ? after : this.#onHead(text, chunk, after);
  }

  /** Up to an empty line, whose CRLF is not in the text; null while that is not there. */
  #collect(chunk: Buffer, at: number, limit: number, tooLong: string): { text: string | null; after: number } {
    const before = this.#heldBytes;
    const till = Math.min(chunk.length, at + limit - before);
    this.#hold(chunk, at, till, limit);
    const held = this.#held!;
    const from = Math.max(0, before - END.length + 1);
    const found = held.subarray(0, this.#heldBytes).indexOf(END, from);
    if (found < 0) {
      this.#checkPart(from);
      if (this.#heldBytes >= limit) throw new ResponseError(tooLong);
      return { text: null, after: till };
    }
    const text = held.toString('latin1', 0, found + 2);
    this.#held = null;
    this.#heldBytes = 0;
    return { text, after: at + found + END.length - before };
  }

  #hold(chunk: Buffer, at: number, till: number, limit: number): void {
    const length = this.#heldBytes + till - at;
    if (this.#held === null || this.#held.length < length) {
      const larger = Buffer.allocUnsafe(Math.min(limit, Math.max(1_024, length * 2)));
      this.#held?.copy(larger, 0, 0, this.#heldBytes);
      this.#held = larger;
    }
    chunk.copy(this.#held, this.#heldBytes, at, till);
    this.#heldBytes = length;
  }

  /** What can never become a head is not waited for. */
  #checkPart(from: number): void {
    const held = this.#held!;
    const length = this.#heldBytes;
    if (this.#state === 'head' && held.toString('latin1', 0, Math.min(length, VERSION.length)) !== VERSION.slice(0, length))
      throw notHttp();
    for (let i = from; i < length; i++) {
      const byte = held[i]!;
      if (byte === LF && (i === 0 || held[i - 1] !== CR)) throw lineEnd();
      if (byte === CR && i + 1 < length && held[i + 1] !== LF) throw lineEnd();
    }
  }

  /** `text` is the head with the CRLF of its last line; the body begins in the chunk at `after`. */
  #onHead(text: string, chunk: Buffer, after: number): number {
    const status = statusOf(text);
    const minor = text.charCodeAt(VERSION.length) - 48;
    const firstEnd = endOfReason(text);
    const reason = text.slice(13, firstEnd);
    this.#keepAlive = minor === 1;
    this.#contentLength = -1;
    this.#chunked = false;
    const headers = this.#readHeaders(text, firstEnd + 2);
    if (this.#chunked && this.#contentLength >= 0) throw new ResponseError('the response has both Content-Length and Transfer-Encoding');
    if (this.#chunked && minor === 0) throw new ResponseError('the response has Transfer-Encoding in HTTP/1.0');
    if (status < 200) {
      this.#onInformational(status, reason, headers, chunk.subarray(after));
      return status === 101 ? chunk.length : after;
    }
    // Close after HEAD: a server that answers it with a body all the same would put the connection out of step.
    if (this.#method === 'HEAD') this.#keepAlive = false;
    const bodiless = this.#method === 'HEAD' || status === 204 || status === 304;
    this.#reader.onHead(status, reason, headers);
    if (this.#isStopped) return chunk.length;
    if (bodiless || this.#contentLength === 0) {
      this.#complete(after === chunk.length);
    } else if (this.#chunked) {
      this.#state = 'chunk-line';
    } else if (this.#contentLength > 0) {
      this.#state = 'length';
      this.#left = this.#contentLength;
    } else {
      this.#state = 'close';
      this.#keepAlive = false;
    }
    return after;
  }

  /** By whom it was called meanwhile. */
  get #isStopped(): boolean {
    return this.#state === 'stopped';
  }

  #onInformational(status: number, reason: string, headers: string[], rest: Buffer): void {
    if (this.#contentLength >= 0 || this.#chunked) throw new ResponseError('an informational response has a body');
    if (status === 100 || (status === 101 && !this.#upgrade))
      throw new ResponseError('the response is an answer to something that was not asked');
    if (status === 101) {
      this.stop();
      this.#reader.onUpgrade(headers, rest);
    } else {
      this.#reader.onHead(status, reason, headers);
    }
  }

  /** Lines from `at` to the end of the text, each with its CRLF. */
  #readHeaders(text: string, at: number): string[] {
    const headers: string[] = [];
    const end = text.length;
    let connection: string | null = null;
    while (at < end) {
      const colon = text.indexOf(':', at);
      if (colon <= at) throw new ResponseError('a line of the head is no header');
      const { lower, kind } = nameOf(text.slice(at, colon));
      at = endOfValue(text, colon + 1);
      const value = trimmed(text, colon + 1, at);
      at += 2;
      if (headers.length >= MAX_RESPONSE_HEADERS * 2) throw new ResponseError('the response has too many headers');
      headers.push(lower, value);
      if (kind === CONNECTION) connection = connection === null ? value : `${connection},${value}`;
      else if (kind !== OTHER) this.#readFraming(kind, value);
    }
    if (connection !== null) this.#readConnection(connection.toLowerCase());
    return headers;
  }

  #readFraming(kind: number, value: string): void {
    if (kind === CONTENT_LENGTH) {
      if (this.#contentLength >= 0 || !LENGTH.test(value)) throw new ResponseError('the response has an invalid Content-Length');
      this.#contentLength = Number(value);
    } else if (kind === TRANSFER_ENCODING) {
      if (this.#chunked || value.toLowerCase() !== 'chunked')
        throw new ResponseError('the response has a transfer coding other than chunked');
      this.#chunked = true;
    } else {
      const seconds = /(?:^|[ ,])timeout=([0-9]{1,6})(?:[ ,]|$)/i.exec(value)?.[1];
      if (seconds !== undefined) this.#keepAliveMs = Number(seconds) * 1_000;
    }
  }

  #readConnection(lower: string): void {
    if (lower === 'keep-alive') {
      this.#keepAlive = true;
      return;
    }
    const tokens = new Set(lower.split(',').map((token) => token.trim()));
    if (tokens.has('close')) this.#keepAlive = false;
    else if (tokens.has('keep-alive')) this.#keepAlive = true;
  }

  // A body in chunks.

  /** The length of a chunk, or the CRLF behind one. */
  #readLine(chunk: Buffer, at: number): number {
    if (this.#held === null && chunk[at + 1] !== undefined && this.#state === 'chunk-end') {
      this.#onLine(chunk, at, chunk[at] === CR && chunk[at + 1] === LF ? at : -1);
      return at + 2;
    }
    const from = at;
    while (at < chunk.length) {
      const byte = chunk[at++]!;
      if (byte !== LF) continue;
      if (this.#held === null) {
        this.#onLine(chunk, from, at >= from + 2 && chunk[at - 2] === CR ? at - 2 : -1);
        return at;
      }
      this.#hold(chunk, from, at, MAX_CHUNK_LINE_BYTES * 2);
      const line = this.#held;
      const length = this.#heldBytes;
      this.#held = null;
      this.#heldBytes = 0;
      this.#onLine(line, 0, length >= 2 && line[length - 2] === CR ? length - 2 : -1);
      return at;
    }
    if (at - from + this.#heldBytes > MAX_CHUNK_LINE_BYTES) throw new ResponseError('a chunk of the response has too long a line');
    this.#hold(chunk, from, at, MAX_CHUNK_LINE_BYTES * 2);
    this.#checkLinePart();
    return at;
  }

  /** What can never become the line of a chunk is not waited for. */
  #checkLinePart(): void {
    const held = this.#held!;
    const last = this.#heldBytes - 1;
    for (let i = 0; i <= last; i++) if (held[i] === CR && i !== last) throw badChunk();
    if (this.#state === 'chunk-end' && held[0] !== CR) throw badChunk();
    if (this.#state === 'chunk-line' && digit(held[0]!) < 0) throw badChunk();
  }

  /** `till`: where its CRLF begins; −1 where it has none. */
  #onLine(line: Buffer, from: number, till: number): void {
    if (till < 0 || till - from > MAX_CHUNK_LINE_BYTES) throw badChunk();
    if (this.#state === 'chunk-end') {
      if (till !== from) throw badChunk();
      this.#state = 'chunk-line';
      return;
    }
    let at = from;
    let size = 0;
    for (; at < till; at++) {
      const value = digit(line[at]!);
      if (value < 0) break;
      size = size * 16 + value;
    }
    if (at === from || at - from > MAX_CHUNK_DIGITS) throw badChunk();
    if (at < till) checkExtensions(line, at, till);
    this.#left = size;
    this.#state = size === 0 ? 'trailers' : 'chunk';
  }

  /** Nobody gets them: they are checked, and that is all. */
  #readTrailers(chunk: Buffer, at: number): number {
    if (this.#held === null) {
      // Most have none: an empty line is the end.
      if (chunk[at] === CR && chunk[at + 1] === LF) {
        this.#complete(at + 2 === chunk.length);
        return at + 2;
      }
      // So that an empty line at the beginning is found as one behind a line is.
      this.#held = Buffer.allocUnsafe(1_024);
      this.#held.write('\r\n', 0, 'latin1');
      this.#heldBytes = 2;
    }
    const { text, after } = this.#collect(chunk, at, MAX_RESPONSE_HEADER_BYTES, 'the trailers of the response are too large');
    if (text === null) return after;
    checkTrailers(text, 2);
    this.#complete(after === chunk.length);
    return after;
  }
}
