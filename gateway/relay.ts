/** A function's response on its way to the client: as few writes as it takes, no faster than it is read. */
import { STATUS_CODES } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Flow } from './attempt.ts';
import type { ClientRequest, ClientResponse } from './context.ts';
import type { ResponseHead } from './headers.ts';

/**
 * Any other is left out, which nobody misses (RFC 9112, 4): Node would refuse it.
 */
const REASON_PHRASE = /^[\t\x20-\x7e]+$/;

/**
 * A body up to this becomes text of one byte a character, bytes: Node writes that in one piece with the head. Two pieces
 * cost a system call that is dearer by some µs.
 */
const ONE_PIECE_BYTES = 16 * 1_024;

export class ResponseRelay {
  readonly #outgoing: ClientResponse;
  #contentLength = -1;
  /** A body that came whole in one chunk goes out with the head and the end in one write. */
  #whole: string | Buffer | null = null;
  #wrote = false;
  #ended = false;
  #paused = false;

  constructor(outgoing: ClientResponse) {
    this.#outgoing = outgoing;
  }

  /** Throws where a header holds characters that have no place in one. */
  begin(status: number, reason: string, head: ResponseHead): void {
    const known = STATUS_CODES[status] ?? 'unknown';
    this.#outgoing.writeHead(status, reason === known || !REASON_PHRASE.test(reason) ? known : reason, head.flat);
    this.#contentLength = head.contentLength;
  }

  /** Data that comes along is handed over before this is called; where there is none the head goes alone. */
  flush(): void {
    if (!this.#wrote && !this.#ended && this.#whole === null && !this.#outgoing.destroyed) this.#outgoing.flushHeaders();
  }

  /** Does the client not read what there is? */
  get paused(): boolean {
    return this.#paused;
  }

  /** The memory of the chunk is its owner's: what is kept of it is a copy. */
  data(flow: Flow, chunk: Buffer): void {
    if (!this.#wrote && chunk.length === this.#contentLength) {
      this.#whole = chunk.length <= ONE_PIECE_BYTES ? chunk.toString('latin1') : Buffer.from(chunk);
      return;
    }
    this.#wrote = true;
    if (this.#outgoing.write(Buffer.from(chunk))) return;
    // What was read with the chunk that was too much comes all the same, and waits for the same.
    if (this.#paused) return;
    flow.pause();
    this.#paused = true;
    this.#outgoing.onDrain(() => {
      this.#paused = false;
      flow.resume();
    });
  }

  end(): void {
    this.#ended = true;
    const whole = this.#whole;
    this.#whole = null;
    if (whole === null) this.#outgoing.end();
    else if (typeof whole === 'string') this.#outgoing.end(whole, 'latin1');
    else this.#outgoing.end(whole);
  }

  /** Cuts the connection so that the body looks truncated. */
  cut(incoming: ClientRequest): void {
    // An end without a byte is taken for a connection that was idle for too long, and clients send again what went on it.
    this.flush();
    // Without a length or chunks only a reset tells a truncated body from a complete one.
    // Over TLS the missing end of the TLS stream tells it as well, and a reset is not to be had.
    const { socket } = incoming;
    const plain = this.#outgoing.chunkedEncoding || this.#contentLength >= 0 || socket instanceof TLSSocket;
    // What was written in this turn goes out at its end: the client is to have it, and to see that it breaks off.
    process.nextTick(() => (plain ? socket.destroy() : socket.resetAndDestroy()));
  }
}
