/** From raw output to log entries. */
import { LogEntry } from '#contract/log.ts';
import { MAX_LOG_LINE_BYTES, RuntimeLogLine } from '#contract/runtime.ts';

/** Longest raw line that is kept; JSON may take six bytes for one. */
const MAX_RAW_LINE_BYTES = 8 * MAX_LOG_LINE_BYTES;
const NEWLINE = 0x0a;
/** Ids of requests, as the gateway lets them through and the shim makes them. */
const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** Splits what one stream of an instance writes into lines. A line that is too long is cut, and its rest left out. */
export class RawLines {
  #pending: Buffer[] = [];
  #bytes = 0;
  /** The line was cut; what follows up to its end is left out. */
  #skipping = false;

  /** `pending`: what there was of a line that had not ended. */
  constructor(pending: Buffer = Buffer.alloc(0)) {
    this.#keep(pending);
  }

  /** What has come of a line that has not ended. */
  get pending(): Buffer {
    return Buffer.concat(this.#pending);
  }

  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      this.#keep(chunk.subarray(from, end));
      const line = this.flush();
      if (line !== null) lines.push(line);
      from = end + 1;
    }
    this.#keep(chunk.subarray(from));
    return lines;
  }

  /** The line that has not ended, as if it had; null where there is none. */
  flush(): string | null {
    const line = this.pending.toString('utf8').trimEnd();
    this.#pending = [];
    this.#bytes = 0;
    this.#skipping = false;
    return line === '' ? null : line;
  }

  #keep(piece: Buffer): void {
    if (this.#skipping || piece.length === 0) return;
    const room = MAX_RAW_LINE_BYTES - this.#bytes;
    this.#pending.push(piece.subarray(0, room));
    this.#bytes += Math.min(room, piece.length);
    this.#skipping = piece.length > room;
  }
}

/** A line of the shim's, or, from a runtime that crashed or a library that writes by itself, just text, written at `now`. */
export function toEntry(line: string, stream: 'stdout' | 'stderr', revision: string, instance: string, now: number): LogEntry {
  const parsed = RuntimeLogLine.safeParse(parseJson(line));
  if (parsed.success) {
    const { t, level, msg, req } = parsed.data;
    return {
      // A function can write such lines by itself. A time to come would hide what follows it from readers, and some are no dates.
      t: t >= 0 && t <= now ? t : now,
      level,
      stream: parsed.data.stream,
      msg: msg.slice(0, MAX_LOG_LINE_BYTES),
      revision,
      instance,
      ...(req !== undefined && REQUEST_ID.test(req) ? { req } : {}),
    };
  }
  const error = stream === 'stderr';
  return {
    t: now,
    level: error ? 'error' : 'info',
    stream: error ? 'err' : 'out',
    msg: line.slice(0, MAX_LOG_LINE_BYTES),
    revision,
    instance,
  };
}

/** What a shim says when it has dropped lines, and what a reader says when the driver has (PROTOCOL.md, Logs). */
const DROPPED = /^(\d{1,9}) log lines were dropped\b/;

/** How many lines the function lost, by the words of this entry; mostly 0. */
export function droppedLines({ stream, msg }: LogEntry): number {
  return stream === 'sys' ? Number(DROPPED.exec(msg)?.[1] ?? 0) : 0;
}

/** Says that the driver's own limit took output away before it was read. Lines by estimate. */
export function lostOutput(bytes: number, meanLineBytes: number): string {
  const lines = Math.max(1, Math.round(bytes / Math.max(1, meanLineBytes)));
  const what = bytes > 0 ? `${bytes} bytes` : 'more';
  return `${lines} log lines were dropped, by estimate: the instance wrote ${what} faster than its output is read`;
}

/** A line of a log file; null for one that a crash of the host cut off. */
export function parseEntry(line: string): LogEntry | null {
  const parsed = LogEntry.safeParse(parseJson(line));
  return parsed.success ? parsed.data : null;
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // Not JSON: the caller takes it as text, or leaves it out.
    return null;
  }
}
