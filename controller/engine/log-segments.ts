/**
 * The files of one function's log, wherever they are kept (LogFiles): segments that are written one after the other, sealed
 * when they are full or old, and removed the oldest first.
 *
 * A segment holds batches: JSON lines, then a commit line. What follows the last commit was cut off by
 * a crash and is taken away when the log is opened again, so a batch is there as a whole or not at all; the
 * commit says whose it was, so that a reader that was killed knows whether it has to read it again.
 * A segment begins with what the commits before it said, so that the newest tells all, whatever became of the others.
 * A sealed segment has the times of its lines in its name: a query opens only those that can match.
 */
import { z } from 'zod';
import type { LogRetention } from '#contract/access.ts';
import type { LogEntry } from '#contract/log.ts';
import type { LogFiles } from '../store/types.ts';
import { droppedLines } from './log-lines.ts';

/** Largest segment, bytes: one is parsed at a time, some 10 ms of the event loop. */
export const MAX_SEGMENT_BYTES = 1024 * 1024;
/** The oldest goes as a whole, so a log has some of them, whatever its limits. */
const SEGMENTS_PER_LOG = 8;

/** Of what a segment may hold, so much is for what earlier commits said: the newest of them. */
const CARRIED_SHARE = 1 / 4;

/**
 * Written after the lines of a batch. `i`, `s`: the reader's instance and its count of batches. `d`: lines dropped so far.
 * `m`: what is carried over from earlier segments, instance → count; the one that was heard last comes last.
 */
const Commit = z.object({
  c: z.object({
    i: z.string().optional(),
    s: z.number().int().optional(),
    d: z.number().int().min(0),
    m: z.record(z.string(), z.number().int()).optional(),
  }),
});
const COMMIT_PREFIX = '{"c":';
/** The time of a line is what it begins with. */
export const ENTRY_PREFIX = '{"t":';
/** As much of a line as its time takes. */
const LINE_HEAD_BYTES = 32;
const NEWLINE = 0x0a;

export interface Segment {
  readonly seq: number;
  name: string;
  /** It was renamed, and nobody knows whether that was done: its other name. */
  was: string | null;
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

/** All methods but read() must be called one after the other. */
export class LogSegments {
  readonly #files: LogFiles;
  readonly #log: string;
  readonly #segments: Segment[] = [];
  /** By instance: its newest batch that is kept. The one that was heard last comes last. */
  readonly #commits = new Map<string, number>();
  #dropped = 0;
  /** The end of the newest segment is not what `bytes` says: a write failed in the middle. */
  #torn = false;

  private constructor(files: LogFiles, log: string) {
    this.#files = files;
    this.#log = log;
  }

  /** Reads what is there; makes nothing where there is nothing. */
  static async open(files: LogFiles, key: string): Promise<LogSegments> {
    const log = new LogSegments(files, key);
    await files.prepare(key);
    for (const { name, bytes } of await files.list(key)) {
      const match = SEGMENT_NAME.exec(name);
      if (match === null) continue;
      const [from, to] = [Number(match[2] ?? Infinity), Number(match[3] ?? -Infinity)];
      log.#segments.push({ seq: Number(match[1]), name, was: null, bytes, from, to, sealed: match[2] !== undefined });
    }
    // The commit that counts may be the last of the one before, where the newest has only been begun.
    for (const segment of log.#segments.slice(-2)) await log.#recover(segment);
    for (const segment of log.#segments.slice(0, -1)) await log.#seal(segment);
    return log;
  }

  async #recover(segment: Segment): Promise<void> {
    const data = (await this.#files.read(this.#log, segment.name)) ?? Buffer.alloc(0);
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
      for (const [instance, seq] of Object.entries(commit.m ?? {})) this.#heard(instance, seq);
      if (commit.i !== undefined && commit.s !== undefined) this.#heard(commit.i, commit.s);
      for (const t of batch) [from, to] = [Math.min(from, t), Math.max(to, t)];
      batch = [];
    }
    if (end < data.length) await this.#files.truncate(this.#log, segment.name, end);
    segment.bytes = end;
    if (!segment.sealed) Object.assign(segment, { from, to });
  }

  /** The newest batch of an instance that is kept; 0 where none is known. */
  committed(instance: string): number {
    return this.#commits.get(instance) ?? 0;
  }

  #heard(instance: string, seq: number): void {
    this.#commits.delete(instance);
    this.#commits.set(instance, seq);
  }

  /** The instance is no more: nothing of it will be read again. */
  forget(instance: string): void {
    this.#commits.delete(instance);
  }

  /** Copies, the oldest first: where a reader begins, whatever is written meanwhile. */
  snapshot(): Segment[] {
    return this.#segments.map((segment) => ({ ...segment }));
  }

  /** What is in a segment now; null: it is gone. It may be renamed at the same moment. */
  async read(seq: number): Promise<Buffer | null> {
    const names = new Set<string>();
    for (;;) {
      const segment = this.#segments.find((one) => one.seq === seq);
      const name = [segment?.name, segment?.was].find((one) => typeof one === 'string' && !names.has(one));
      if (typeof name !== 'string') return null;
      const data = await this.#files.read(this.#log, name);
      if (data !== null) return data;
      names.add(name);
    }
  }

  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  get dropped(): number {
    return this.#dropped;
  }

  /** Lines that will never be kept. */
  drop(lines: number): void {
    this.#dropped += lines;
  }

  /** Adds a batch. Where it cannot be written nothing is changed and the error is thrown; it can be tried again. */
  async append(entries: readonly LogEntry[], of: BatchOf, retention: LogRetention, now: number): Promise<void> {
    const segment = this.#newest();
    const carried = segment.bytes === 0 ? this.#carried(retention) : '';
    const dropped = entries.reduce((sum, entry) => sum + droppedLines(entry), this.#dropped);
    const lines = newestThatFit(entries, retention.maxBytes / 2);
    const data = Buffer.from(carried + lines.join('') + commitLine(of, dropped));
    await this.#write(segment, data, now);
    this.#dropped = dropped;
    for (const { t } of entries) {
      segment.from = Math.min(segment.from, t);
      segment.to = Math.max(segment.to, t);
    }
    if (of !== null) this.#heard(of.instance, of.seq);
  }

  async #write(segment: Segment, data: Buffer, now: number): Promise<void> {
    await this.#mend(segment);
    this.#torn = true;
    await this.#files.append(this.#log, segment.name, data, now);
    this.#torn = false;
    segment.bytes += data.length;
  }

  /** Takes away what a write left behind that failed, as on a full disk. */
  async #mend(newest: Segment): Promise<void> {
    if (this.#torn) await this.#files.truncate(this.#log, newest.name, newest.bytes);
    this.#torn = false;
  }

  /** What the next segment must know of those before it; '' where that is nothing. */
  #carried(retention: LogRetention): string {
    if (this.#commits.size === 0 && this.#dropped === 0) return '';
    const room = fullAt(retention) * CARRIED_SHARE;
    const newest: [string, number][] = [];
    let bytes = 0;
    for (const [instance, seq] of [...this.#commits].toReversed()) {
      bytes += instance.length + String(seq).length + '"":,'.length;
      if (bytes > room) break;
      newest.push([instance, seq]);
    }
    return `${JSON.stringify({ c: { d: this.#dropped, m: Object.fromEntries(newest.toReversed()) } })}\n`;
  }

  #newest(): Segment {
    const last = this.#segments.at(-1);
    if (last && !last.sealed) return last;
    const seq = (last?.seq ?? 0) + 1;
    const segment: Segment = { seq, name: segmentName(seq), was: null, bytes: 0, from: Infinity, to: -Infinity, sealed: false };
    this.#segments.push(segment);
    return segment;
  }

  /** Seals the newest segment where it is full or old, and removes what is beyond the limits. */
  async expire(retention: LogRetention, now: number): Promise<void> {
    const { maxBytes, maxAgeSeconds } = retention;
    for (const segment of this.#segments) await this.#settle(segment);
    const last = this.#segments.at(-1);
    const old = now - (maxAgeSeconds * 1_000) / SEGMENTS_PER_LOG;
    if (last && !last.sealed && !this.#torn && (last.bytes >= fullAt(retention) || last.from < old)) await this.#seal(last);
    const oldest = now - maxAgeSeconds * 1_000;
    const expired = () => {
      const [first] = this.#segments;
      return first?.sealed === true && (this.bytes > maxBytes || first.to < oldest);
    };
    while (expired()) await this.#removeFirst(retention, now);
  }

  /** The oldest segment goes, whatever its age. Returns the bytes that are free by that; 0: there was none. */
  async removeOldest(retention: LogRetention, now: number): Promise<number> {
    const [first] = this.#segments;
    if (first === undefined) return 0;
    if (!first.sealed) await this.#mend(first);
    await this.#seal(first);
    await this.#removeFirst(retention, now);
    return first.bytes;
  }

  async #removeFirst(retention: LogRetention, now: number): Promise<void> {
    const first = this.#segments[0]!;
    await this.#settle(first);
    // What commits said outlives the lines.
    const carried = this.#segments.length === 1 ? this.#carried(retention) : '';
    if (carried !== '') await this.#write(this.#newest(), Buffer.from(carried), now);
    await this.#files.remove(this.#log, first.name);
    this.#segments.shift();
  }

  async #seal(segment: Segment): Promise<void> {
    if (segment.sealed) return;
    // Of a segment without lines, or one that an older version left: times that no query asks for.
    const from = Number.isFinite(segment.from) ? Math.floor(segment.from) : 0;
    const to = Number.isFinite(segment.to) ? Math.ceil(segment.to) : 0;
    Object.assign(segment, { name: segmentName(segment.seq, from, to), was: segment.name, from, to, sealed: true });
    await this.#settle(segment);
  }

  /** Renames it, again where nobody knows whether that was done. */
  async #settle(segment: Segment): Promise<void> {
    if (segment.was === null) return;
    await this.#files.rename(this.#log, segment.was, segment.name);
    segment.was = null;
  }
}

/** A segment is full with so many bytes. */
const fullAt = ({ maxBytes }: LogRetention): number => Math.min(MAX_SEGMENT_BYTES, maxBytes / SEGMENTS_PER_LOG);

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
export async function isExpired(files: LogFiles, log: string, { maxAgeSeconds }: LogRetention, now: number): Promise<boolean> {
  const oldest = now - maxAgeSeconds * 1_000;
  return (await files.list(log)).some(({ name, changedAt }) => {
    const match = SEGMENT_NAME.exec(name);
    // One that is not sealed: nothing in it is newer than its last write.
    return match !== null && (match[3] === undefined ? changedAt : Number(match[3])) < oldest;
  });
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
