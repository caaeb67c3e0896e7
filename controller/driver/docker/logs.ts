/**
 * Docker's log stream, taken apart, with a place in it that survives a restart.
 *
 * Docker gives each entry its time, to the nanosecond, and can begin at a time. But times are no
 * places: two entries can have the same, and as stdout and stderr are read by two threads, an entry
 * can be filed after a later one. The order in the file is stable, though. So a position is a time
 * safely in the past (the mark), how many entries not older than it were given out, and the newest
 * time given out: reading begins at the mark and leaves out that many.
 */
import { sleep } from '#kit/clock.ts';
import { DriverUnavailable, type LogChunk } from '../types.ts';
import type { Engine } from './engine.ts';

/** How far two entries can be filed out of order, ms. Thousands of times what was seen. */
const REORDER_MS = 1_000;

/** Largest entry that is believed, bytes: Docker splits what instances write at 16 KiB. */
const MAX_FRAME_BYTES = 1024 * 1024;

/** `2026-11-21T05:49:00.123456789Z `: fixed in its width. */
const TIME_BYTES = 30;

interface Frame {
  stream: 'stdout' | 'stderr';
  payload: Buffer;
}

/** Splits Docker's multiplexed stream: 1 byte stream, 3 zero, 4 length (big-endian), payload. Throws on anything else. */
export class FrameSplitter {
  #pending: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<Frame> {
    let data = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (data.length >= 8) {
      const length = data.readUInt32BE(4);
      const kind = data[0];
      if (length > MAX_FRAME_BYTES || (kind !== 1 && kind !== 2)) throw new Error('the engine sent a log stream that cannot be read');
      if (data.length < 8 + length) break;
      yield { stream: kind === 1 ? 'stdout' : 'stderr', payload: data.subarray(8, 8 + length) };
      data = data.subarray(8 + length);
    }
    this.#pending = data;
  }
}

/** All of a short multiplexed answer as text. */
export function framesText(data: Buffer): string {
  return [...new FrameSplitter().push(data)].map((frame) => frame.payload.toString('utf8')).join('');
}

/** A mark: a time, and the entries given out that are not older. */
interface Mark {
  time: string;
  given: number;
}

/** Where a reader is. Times are Docker's own text, which sorts as time does. */
export class LogCursor {
  /** The mark that positions use, and the one that will follow it. */
  #mark: Mark;
  #nextMark: Mark;
  #newest: string;
  /** Entries given out with the newest time. */
  #atNewest: number;
  /** Entries still to be left out. */
  #skip: number;

  constructor(after: string | null) {
    const position = after === null ? null : parsePosition(after);
    this.#mark = { time: position?.mark ?? '', given: position?.given ?? 0 };
    this.#nextMark = { ...this.#mark };
    this.#newest = position?.newest ?? '';
    this.#atNewest = 0;
    this.#skip = this.#mark.given;
  }

  /** Where Docker is to begin, `seconds.nanoseconds`. */
  get since(): string {
    return this.#mark.time === '' ? '0' : toUnix(this.#mark.time);
  }

  /** Begins again from the position reached, on a new stream. */
  rewind(): void {
    this.#skip = this.#mark.given;
    this.#atNewest = 0;
  }

  /** The entry as a chunk with its position, or null where it was given out before. */
  take(frame: Frame): LogChunk | null {
    const time = frame.payload.toString('latin1', 0, TIME_BYTES);
    let lost = false;
    if (this.#skip > 0) {
      // What is newer than all that was given out was not given out, whatever the log's rotation took away.
      if (time <= this.#newest) {
        this.#skip -= 1;
        if (time === this.#newest) this.#atNewest += 1;
        return null;
      }
      // Entries that were given out are not there any more, so others may have gone with them unread.
      lost = this.#skip === this.#mark.given;
      this.#skip = 0;
    }
    this.#count(time);
    return {
      stream: frame.stream,
      data: frame.payload.subarray(TIME_BYTES + 1),
      position: `${this.#mark.time}+${this.#mark.given}+${this.#newest}`,
      at: Date.parse(time),
      ...(lost ? { lostBytes: 0 } : {}),
    };
  }

  #count(time: string): void {
    if (this.#mark.time === '') {
      // The first entry of all. Something older could still be filed after it.
      this.#mark = { time: earlier(time, REORDER_MS), given: 0 };
      this.#nextMark = { time, given: 0 };
    }
    if (time > this.#newest) {
      this.#newest = time;
      this.#atNewest = 0;
    }
    if (time === this.#newest) this.#atNewest += 1;
    if (time >= this.#mark.time) this.#mark.given += 1;
    if (time >= this.#nextMark.time) this.#nextMark.given += 1;
    if (Date.parse(this.#newest) - Date.parse(this.#nextMark.time) <= REORDER_MS) return;
    this.#mark = this.#nextMark;
    this.#nextMark = { time: this.#newest, given: this.#atNewest };
  }
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/;

function parsePosition(text: string): { mark: string; given: number; newest: string } {
  const [mark = '', given = '', newest = ''] = text.split('+');
  if (!TIME.test(mark) || !TIME.test(newest) || !/^\d+$/.test(given)) throw new Error(`not a position in a log: ${JSON.stringify(text)}`);
  return { mark, given: Number(given), newest };
}

function toUnix(time: string): string {
  return `${Math.floor(Date.parse(`${time.slice(0, 19)}Z`) / 1_000)}.${time.slice(20, 29)}`;
}

function earlier(time: string, ms: number): string {
  return `${new Date(Date.parse(`${time.slice(0, 19)}Z`) - ms).toISOString().slice(0, 19)}.${time.slice(20, 29)}Z`;
}

/** Pause before a stream that broke off is opened again, ms. */
const REOPEN_MS = 200;

/**
 * What a container writes, until it ends or is aborted. A stream that the engine breaks off, as when
 * it is restarted, is taken up where it was. Nothing is read ahead of the consumer but what the
 * stream itself buffers.
 */
export async function* followLogs(engine: Engine, container: string, after: string | null, signal: AbortSignal): AsyncGenerator<LogChunk> {
  const cursor = new LogCursor(after);
  for (; !signal.aborted; cursor.rewind()) {
    try {
      const stream = await engine.follow(container, cursor.since, signal);
      if (stream === null) return;
      const frames = new FrameSplitter();
      for await (const data of stream) {
        for (const frame of frames.push(Buffer.isBuffer(data) ? data : Buffer.from(data))) {
          const chunk = cursor.take(frame);
          if (chunk !== null) yield chunk;
        }
      }
      const inspected = await engine.inspect(container);
      if (!inspected?.State.Running) return;
    } catch (error) {
      if (signal.aborted) return;
      if (!isBrokenOff(error)) throw error;
    }
    await sleep(REOPEN_MS, signal).catch(() => {}); // Aborted: the loop ends.
  }
}

function isBrokenOff(error: unknown): boolean {
  return (
    error instanceof DriverUnavailable ||
    (error instanceof Error && 'code' in error && ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes(String(error.code)))
  );
}
