/**
 * Follows the frames of a WebSocket (RFC 6455, section 5.2) as they pass, so that a frame of the gateway's
 * own can be put between two of them. Only heads are looked at, some ten instructions a frame; nothing is
 * kept, unmasked or checked: what the two ends say to each other is theirs.
 */
import { randomBytes } from 'node:crypto';

const CLOSE = 8;
const OPCODE_BITS = 0x0f;
const MASKED_BIT = 0x80;
const LENGTH_BITS = 0x7f;

export class FrameTracker {
  /** Bytes of the payload that are still to come. */
  #left = 0;
  /** Bytes of the head that were read, and of those that make it up; 0: between two frames. */
  #headRead = 0;
  #headBytes = 2;
  #lengthEnd = 2;
  #length = 0;
  #opcode = 0;
  #closed = false;

  /** Does a frame end here? Then another may begin. */
  get atBoundary(): boolean {
    return this.#left === 0 && this.#headRead === 0;
  }

  /** A close frame has passed: nothing may follow it. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Follows the chunk, or with `stop` only to the end of the frame that is under way in it. Returns how
   * many bytes that are.
   */
  follow(chunk: Buffer, stop = false): number {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const step = Math.min(this.#left, chunk.length - at);
        at += step;
        this.#left -= step;
      } else {
        this.#readHead(chunk[at++]!);
      }
      if (this.atBoundary) {
        if (this.#opcode === CLOSE) this.#closed = true;
        if (stop) return at;
      }
    }
    return at;
  }

  #readHead(byte: number): void {
    const index = this.#headRead++;
    if (index === 0) {
      this.#opcode = byte & OPCODE_BITS;
      return;
    }
    if (index === 1) {
      const short = byte & LENGTH_BITS;
      this.#length = short < 126 ? short : 0;
      this.#lengthEnd = short < 126 ? 2 : short === 126 ? 4 : 10;
      this.#headBytes = this.#lengthEnd + ((byte & MASKED_BIT) === 0 ? 0 : 4);
    } else if (index < this.#lengthEnd) {
      // Beyond 2^53 it is not exact any more, and will never be reached either.
      this.#length = this.#length * 256 + byte;
    }
    if (this.#headRead === this.#headBytes) {
      this.#headRead = 0;
      this.#headBytes = 2;
      this.#left = this.#length;
    }
  }
}

/** A close frame: as a server sends it, or as a client must, `masked`. The reason has at most 123 bytes of ASCII. */
export function closeFrame(code: number, reason: string, masked: boolean): Buffer {
  const length = 2 + reason.length;
  const head = masked ? 6 : 2;
  const frame = Buffer.alloc(head + length);
  frame[0] = 0x80 | CLOSE;
  frame[1] = length | (masked ? MASKED_BIT : 0);
  frame.writeUInt16BE(code, head);
  frame.write(reason, head + 2, 'latin1');
  if (masked) {
    const mask = randomBytes(4);
    mask.copy(frame, 2);
    for (let i = 0; i < length; i++) frame[head + i]! ^= mask[i & 3]!;
  }
  return frame;
}
