/**
 * The log of a container as the kubelet sends it with timestamps, taken apart. A node's runtime cuts long lines into pieces and
 * the kubelet joins them again; up to 1.2x it puts a time before every piece, later before the first only. So a time is looked
 * for at the start of a line, and wherever a piece may begin.
 */
import { parseStamp, type Stamp } from './log-place.ts';

/** Where containerd and CRI-O cut, bytes. */
const PIECE_BYTES = 16_384;
/** A time with its blank is not longer, bytes. */
const MAX_STAMP_BYTES = 36;
const NEWLINE = 10;
const BLANK = 32;

export interface LogPiece {
  /** null: it goes on with the piece before. */
  stamp: Stamp | null;
  /** With its newline, where the line ends with it. */
  data: Buffer;
}

export class LogEntries {
  #pending: Buffer = Buffer.alloc(0);
  /** The time of the piece that is being read; null: a line begins. */
  #stamp: Stamp | null = null;
  /** Whether that time was given out. */
  #told = false;

  /** The pieces that this chunk completes. Throws where there is no time where one must be. */
  *push(chunk: Buffer): Generator<LogPiece> {
    let data = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    for (;;) {
      if (this.#stamp === null) {
        const found = stampAt(data);
        if (found === 'more') break;
        if (found === null) throw new Error('the log of a pod has a line without a time');
        this.#begin(found.stamp);
        data = data.subarray(found.length);
      }
      const newline = data.subarray(0, PIECE_BYTES).indexOf(NEWLINE);
      if (newline >= 0) {
        yield this.#piece(data.subarray(0, newline + 1));
        this.#stamp = null;
        data = data.subarray(newline + 1);
        continue;
      }
      if (data.length < PIECE_BYTES) break;
      // A whole piece without its line's end: what comes next says whether it goes on under the same time.
      const next = stampAt(data.subarray(PIECE_BYTES));
      if (next === 'more' && data.length - PIECE_BYTES < MAX_STAMP_BYTES && !data.subarray(PIECE_BYTES).includes(NEWLINE)) break;
      yield this.#piece(data.subarray(0, PIECE_BYTES));
      data = data.subarray(PIECE_BYTES);
      if (next !== null && next !== 'more') {
        this.#begin(next.stamp);
        data = data.subarray(next.length);
      }
    }
    this.#pending = data;
  }

  #begin(stamp: Stamp): void {
    this.#stamp = stamp;
    this.#told = false;
  }

  #piece(data: Buffer): LogPiece {
    const stamp = this.#told ? null : this.#stamp;
    this.#told = true;
    return { stamp, data };
  }
}

/** `more`: there may be one, with what comes next. */
function stampAt(data: Buffer): { stamp: Stamp; length: number } | 'more' | null {
  const blank = data.subarray(0, MAX_STAMP_BYTES).indexOf(BLANK);
  if (blank < 0) return data.length < MAX_STAMP_BYTES ? 'more' : null;
  const stamp = parseStamp(data.toString('latin1', 0, blank));
  return stamp === null ? null : { stamp, length: blank + 1 };
}
