/**
 * The files of one function's log: segments that are written one after the other, sealed when they are
 * full or old, and removed the oldest first.
 *
 * A segment holds batches: JSON lines, then a commit line. What follows the last commit was cut off by
 * a crash and is taken away when the log is opened again, so a batch is there as a whole or not at all; the
 * commit says whose it was, so that a reader that was killed knows whether it has to read it again.
 * A sealed segment has the times of its lines in its name: a query opens only those that can match.
 */
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { LogRetention } from '#contract/access.ts';
import type { LogEntry } from '#contract/log.ts';
import { droppedLines } from './log-lines.ts';

/** Largest segment, bytes: one is parsed at a time, some 10 ms of the event loop. */
export const MAX_SEGMENT_BYTES = 1024 * 1024;
/** The oldest goes as a whole, so a log has some of them, whatever its limits. */
const SEGMENTS_PER_LOG = 8;

/** Written after the lines of a batch. `i`, `s`: the reader's instance and its count of batches. `d`: lines dropped so far. */
const Commit = z.object({ c: z.object({ i: z.string().optional(), s: z.number().int().optional(), d: z.number().int().min(0) }) });
const COMMIT_PREFIX = '{"c":';
/** The time of a line is what it begins with. */
export const ENTRY_PREFIX = '{"t":';
/** As much of a line as its time takes. */
const LINE_HEAD_BYTES = 32;
const NEWLINE = 0x0a;

export interface Segment {
  readonly seq: number;
  path: string;
  /** Up to its last commit. */
  bytes: number;
  /** Times of its oldest and newest line; Infinity and -Infinity where it has none. */
  from: number;
  to: number;
  sealed: boolean;
}

/** Whose batch it is; null for the platform's own words. */
export type BatchOf = { instance: string; seq: number } | null;

const SEGMENT_NAME = /^(\d{10})(?:\.(-?\d+)\.(-?\d+))?\.jsonl$/;

/** All methods must be called one after the other. */
export class LogSegments {
  readonly #folder: string;
  readonly #segments: Segment[] = [];
  /** By instance: its newest batch that is kept. */
  readonly #commits = new Map<string, number>();
  #dropped = 0;
  /** The end of the newest segment is not what `bytes` says: a write failed in the middle. */
  #torn = false;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads what is there; makes nothing where there is nothing. */
  static async open(folder: string): Promise<LogSegments> {
    const log = new LogSegments(folder);
    await log.#takeOver();
    for (const name of (await namesIn(folder)).toSorted()) {
      const match = SEGMENT_NAME.exec(name);
      if (match === null) continue;
      const path = join(folder, name);
      const sealed = match[2] !== undefined;
      const segment = {
        seq: Number(match[1]),
        path,
        bytes: 0,
        from: Number(match[2] ?? Infinity),
        to: Number(match[3] ?? -Infinity),
        sealed,
      };
      segment.bytes = (await stat(path)).size;
      log.#segments.push(segment);
    }
    // The commit that counts may be the last of the one before, where the newest has only been begun.
    for (const segment of log.#segments.slice(-2)) await log.#recover(segment);
    for (const segment of log.#segments.slice(0, -1)) await log.#seal(segment);
    return log;
  }

  /** Logs as they were kept before there were segments: two files beside the folder. */
  async #takeOver(): Promise<void> {
    for (const [seq, old] of [`${this.#folder}.jsonl.1`, `${this.#folder}.jsonl`].entries()) {
      const found = await stat(old).catch(ignoreMissing);
      if (found === null) continue;
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await appendFile(old, `\n${commitLine(null, 0)}`);
      await rename(old, join(this.#folder, segmentName(seq + 1)));
    }
  }

  async #recover(segment: Segment): Promise<void> {
    const data = await readFile(segment.path);
    let end = 0;
    let [from, to] = [Infinity, -Infinity];
    let batch: number[] = [];
    // Lines are told apart by their first bytes: a log is opened where a function starts, and must not hold that up.
    for (let start = 0, newline = data.indexOf(NEWLINE); newline >= 0; start = newline + 1, newline = data.indexOf(NEWLINE, start)) {
      const head = data.toString('latin1', start, Math.min(newline, start + LINE_HEAD_BYTES));
      if (head.startsWith(ENTRY_PREFIX)) batch.push(Number.parseFloat(head.slice(ENTRY_PREFIX.length)));
      const commit = head.startsWith(COMMIT_PREFIX) ? parseCommit(data.toString('utf8', start, newline)) : null;
      if (commit === null) continue;
      end = newline + 1;
      this.#dropped = commit.d;
      if (commit.i !== undefined && commit.s !== undefined) this.#commits.set(commit.i, commit.s);
      for (const t of batch) [from, to] = [Math.min(from, t), Math.max(to, t)];
      batch = [];
    }
    if (end < data.length) await truncate(segment.path, end);
    segment.bytes = end;
    if (!segment.sealed) Object.assign(segment, { from, to });
  }

  /** The newest batch of an instance that is kept; 0 where none is known. */
  committed(instance: string): number {
    return this.#commits.get(instance) ?? 0;
  }

  /** The instance is no more: nothing of it will be read again. */
  forget(instance: string): void {
    this.#commits.delete(instance);
  }

  /** Copies, the oldest first: where a reader begins, whatever is written meanwhile. */
  snapshot(): Segment[] {
    return this.#segments.map((segment) => ({ ...segment }));
  }

  /** Where a segment is now: it may have been sealed meanwhile. null: it is gone. */
  pathOf(seq: number): string | null {
    return this.#segments.find((segment) => segment.seq === seq)?.path ?? null;
  }

  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  get dropped(): number {
    return this.#dropped;
  }

  /** Adds a batch. Where it cannot be written its lines count as dropped, and the error is thrown. */
  async append(entries: readonly LogEntry[], of: BatchOf, retention: LogRetention, now: number): Promise<void> {
    for (const entry of entries) this.#dropped += droppedLines(entry);
    const lines = newestThatFit(entries, retention.maxBytes / 2);
    const data = Buffer.from(lines.join('') + commitLine(of, this.#dropped));
    const segment = this.#newest();
    try {
      await this.#mend(segment);
      await this.#write(segment, data);
    } catch (error) {
      this.#torn = true;
      this.#dropped += entries.length;
      throw error;
    }
    segment.bytes += data.length;
    for (const { t } of entries) {
      segment.from = Math.min(segment.from, t);
      segment.to = Math.max(segment.to, t);
    }
    if (of !== null) this.#commits.set(of.instance, of.seq);
    await this.expire(retention, now);
  }

  /** What a write left behind that failed, as on a full disk. */
  async #mend(segment: Segment): Promise<void> {
    if (!this.#torn) return;
    await truncate(segment.path, segment.bytes).catch(ignoreMissing);
    this.#torn = false;
  }

  async #write(segment: Segment, data: Buffer): Promise<void> {
    try {
      await appendFile(segment.path, data, { mode: 0o600 });
    } catch (error) {
      if (!isMissing(error)) throw error;
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await appendFile(segment.path, data, { mode: 0o600 });
    }
  }

  #newest(): Segment {
    const last = this.#segments.at(-1);
    if (last && !last.sealed) return last;
    const seq = (last?.seq ?? 0) + 1;
    const segment: Segment = { seq, path: join(this.#folder, segmentName(seq)), bytes: 0, from: Infinity, to: -Infinity, sealed: false };
    this.#segments.push(segment);
    return segment;
  }

  /** Seals the newest segment where it is full or old, and removes what is beyond the limits. */
  async expire(retention: LogRetention, now: number): Promise<void> {
    const { maxBytes, maxAgeSeconds } = retention;
    const last = this.#segments.at(-1);
    const full = Math.min(MAX_SEGMENT_BYTES, maxBytes / SEGMENTS_PER_LOG);
    const old = now - (maxAgeSeconds * 1_000) / SEGMENTS_PER_LOG;
    if (last && !last.sealed && !this.#torn && (last.bytes >= full || last.from < old)) await this.#seal(last);
    const oldest = now - maxAgeSeconds * 1_000;
    const expired = () => {
      const [first] = this.#segments;
      return first?.sealed === true && (this.bytes > maxBytes || first.to < oldest) ? first : null;
    };
    for (let first = expired(); first !== null; first = expired()) {
      // The count of what was dropped outlives the lines.
      if (this.#segments.length === 1 && this.#dropped > 0) {
        const next = this.#newest();
        const data = Buffer.from(commitLine(null, this.#dropped));
        await this.#write(next, data);
        next.bytes = data.length;
      }
      await rm(first.path, { force: true });
      this.#segments.shift();
    }
  }

  async #seal(segment: Segment): Promise<void> {
    if (segment.sealed) return;
    // Of a segment without lines, or one that an older version left: times that no query asks for.
    const from = Number.isFinite(segment.from) ? Math.floor(segment.from) : 0;
    const to = Number.isFinite(segment.to) ? Math.ceil(segment.to) : 0;
    const path = join(this.#folder, segmentName(segment.seq, from, to));
    await rename(segment.path, path);
    Object.assign(segment, { path, from, to, sealed: true });
  }
}

const segmentName = (seq: number, from?: number, to?: number): string =>
  `${String(seq).padStart(10, '0')}${from === undefined || to === undefined ? '' : `.${from}.${to}`}.jsonl`;

const commitLine = (of: BatchOf, dropped: number): string =>
  `${JSON.stringify({ c: { ...(of === null ? {} : { i: of.instance, s: of.seq }), d: dropped } })}\n`;

function parseCommit(line: string): z.infer<typeof Commit>['c'] | null {
  try {
    return Commit.parse(JSON.parse(line)).c;
  } catch {
    // Not one of ours: an end of a line that was cut off.
    return null;
  }
}

/** Whether a log that nobody has open has something that is too old, by the names of its files alone. */
export async function isExpired(folder: string, { maxAgeSeconds }: LogRetention, now: number): Promise<boolean> {
  const oldest = now - maxAgeSeconds * 1_000;
  for (const name of await namesIn(folder)) {
    const match = SEGMENT_NAME.exec(name);
    if (match === null) continue;
    // One that is not sealed: nothing in it is newer than its last write.
    const to = match[3] === undefined ? (await stat(join(folder, name)).catch(ignoreMissing))?.mtimeMs : Number(match[3]);
    if (to !== undefined && to < oldest) return true;
  }
  return false;
}

/** A batch that is more than the log may hold brings only its end. */
function newestThatFit(entries: readonly LogEntry[], maxBytes: number): string[] {
  const lines: string[] = [];
  let bytes = 0;
  for (const entry of entries.toReversed()) {
    const line = `${JSON.stringify(entry)}\n`;
    bytes += Buffer.byteLength(line);
    if (bytes > maxBytes && lines.length > 0) break;
    lines.push(line);
  }
  return lines.toReversed();
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw error;
  });
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';

function ignoreMissing(error: unknown): null {
  if (isMissing(error)) return null;
  throw error;
}
