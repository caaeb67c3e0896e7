/**
 * Reads what instances write, each as long as it lives, and goes on where an earlier controller was.
 *
 * Each batch of lines is written in two steps, so that a controller that is killed between them leaves
 * no line twice and none out: first the reader's record says what is about to be written and where it
 * will be after it, then the batch is appended with a commit. The next controller looks for the commit.
 *
 * While the store is away nothing is read on: what instances write waits where the driver keeps it. Lines that cannot be kept
 * for another reason, as on a full disk, are lost and counted.
 */
import { z } from 'zod';
import { FnError } from '#contract/errors.ts';
import type { LogEntry } from '#contract/log.ts';
import { backoffMs } from '#kit/backoff.ts';
import { sleep, type Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { LogChunk } from '../driver/types.ts';
import type { InstanceRecords } from '../store/types.ts';
import { messageOf } from './context.ts';
import { LogBatch } from './log-batch.ts';
import { lostOutput, RawLines, toEntry } from './log-lines.ts';
import { LogPace } from './log-pace.ts';
import type { BatchOf } from './log-segments.ts';

/** An instance that is to go may finish its last words for so long, ms. */
const LAST_WORDS_MS = 200;
/** When reading from an instance breaks, it is begun again after 0.1, 0.2 … 5 s. */
const READ_AGAIN = { baseMs: 100, maxMs: 5_000, jitter: 0.25 };
/** A store that is away is tried again after 0.1, 0.2 … 2 s. */
const WRITE_AGAIN = { baseMs: 100, maxMs: 2_000, jitter: 0.25 };
/** Lines are taken for so long where nobody knows better, bytes: for the estimate of what a driver dropped. */
const TYPICAL_LINE_BYTES = 150;

/** What an instance wrote, from a position of the driver's on (null: from its start). */
export type ReadLogs = (after: string | null, signal: AbortSignal) => AsyncIterable<LogChunk>;

type Lines = Record<'stdout' | 'stderr', RawLines>;

interface Follower {
  abort: AbortController;
  done: Promise<void>;
  /** It is about to be killed: a line that has not ended will not go on. */
  last: boolean;
}

/** Where a reader is: the driver's position, and what it had read of lines that had not ended (base64). */
const Place = z.object({ position: z.string().nullable(), stdout: z.string(), stderr: z.string() });
type Place = z.infer<typeof Place>;
const NOWHERE: Place = { position: null, stdout: '', stderr: '' };

/** The reader's record: where it was before its batch `seq`, and where it is after it. */
const ReaderRecord = z.object({ seq: z.number().int(), before: Place, after: Place });

/** One who reads an instance. */
interface Reader {
  readonly instance: string;
  readonly revision: string;
  readonly lines: Lines;
  /** It is to end: what cannot be kept now is not kept. */
  readonly signal: AbortSignal;
  seq: number;
  place: Place;
}

/** Where lines are kept. */
export interface KeptLines {
  /** Number of the newest batch of an instance that was kept; 0: none was, or its log went with its function. */
  committed(revision: string, instance: string): Promise<number>;
  /** Where it throws nothing was kept, and it can be tried again. */
  append(revision: string, entries: LogEntry[], of: BatchOf): Promise<void>;
  /** They will never be kept. */
  drop(revision: string, entries: LogEntry[]): void;
  /** The instance has ended: nobody will ask for its newest batch. */
  forget(revision: string, instance: string): Promise<void>;
}

export interface LogReadersOptions {
  kept: KeptLines;
  records: InstanceRecords;
  clock: Clock;
  log: Log;
}

export class LogReaders {
  readonly #options: LogReadersOptions;
  readonly #followers = new Map<string, Follower>();

  constructor(options: LogReadersOptions) {
    this.#options = options;
  }

  /** Reads what the instance writes until it ends. Idempotent. */
  follow(instance: string, revision: string, read: ReadLogs): void {
    if (this.#followers.has(instance)) return;
    const follower: Follower = { abort: new AbortController(), done: Promise.resolve(), last: false };
    this.#followers.set(instance, follower);
    follower.done = this.#follow(instance, revision, read, follower)
      .catch((error: unknown) => this.#options.log.warn({ instance, error: messageOf(error) }, 'reading the logs of an instance failed'))
      .finally(() => this.#followers.delete(instance));
  }

  async #follow(instance: string, revision: string, read: ReadLogs, follower: Follower): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = follower.abort;
    const reader = await this.#insist(instance, signal, () => this.#reader(instance, revision, signal));
    let { position } = reader.place;
    // What a batch holds and where it ends are taken in the same turn, so they belong together.
    const batch = new LogBatch<LogEntry>((entries) => this.#keep(reader, entries, position));
    const pace = new LogPace(clock);
    for (let failures = 0; !signal.aborted;) {
      try {
        for await (const chunk of read(position, signal)) {
          failures = 0;
          const entries = entriesOfChunk(reader, chunk, clock.wall());
          position = chunk.position;
          await batch.add(entries);
          const pauseMs = pace.take(chunk.data.length);
          if (pauseMs > 0) await sleep(pauseMs, signal);
        }
        break;
      } catch (error) {
        if (signal.aborted) break;
        failures += 1;
        if (failures === 1) log.warn({ instance, error: messageOf(error) }, 'the logs of an instance cannot be read; trying again');
        // Told to end: the loop sees it.
        await sleep(backoffMs(failures, READ_AGAIN), signal).catch(() => undefined);
      }
    }
    await batch.flush();
    if (signal.aborted && !follower.last) return;
    const rest = restOf(reader, clock.wall());
    if (rest.length > 0) await this.#keep(reader, rest, position);
    await this.#options.kept.forget(revision, instance);
  }

  /** Does it; where the store is away again and again, until it is told to end. */
  async #insist<T>(instance: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { log } = this.#options;
    for (let failures = 1; ; failures += 1) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof FnError) || error.code !== 'store-unavailable' || signal.aborted) throw error;
        if (failures === 1) log.warn({ instance, error: error.message }, 'the logs of an instance wait for the store');
        // Told to end: it is tried once more, and then it throws.
        await sleep(backoffMs(failures, WRITE_AGAIN), signal).catch(() => undefined);
      }
    }
  }

  /** Goes on where the last one was: after its newest batch, if that was kept. */
  async #reader(instance: string, revision: string, signal: AbortSignal): Promise<Reader> {
    const record = parseRecord(await this.#options.records.logPosition(instance));
    const committed = await this.#options.kept.committed(revision, instance);
    const seq = Math.max(record?.seq ?? 0, committed);
    const place = record === null ? NOWHERE : committed >= record.seq ? record.after : record.before;
    const pending = (text: string) => new RawLines(Buffer.from(text, 'base64'));
    return { instance, revision, signal, seq, place, lines: { stdout: pending(place.stdout), stderr: pending(place.stderr) } };
  }

  async #keep(reader: Reader, entries: LogEntry[], position: string | null): Promise<void> {
    const { kept, log } = this.#options;
    const { instance, revision, lines, signal } = reader;
    const after: Place = { position, stdout: lines.stdout.pending.toString('base64'), stderr: lines.stderr.pending.toString('base64') };
    const seq = entries.length > 0 ? reader.seq + 1 : reader.seq;
    const before = entries.length > 0 ? reader.place : after;
    reader.seq = seq;
    reader.place = after;
    try {
      await this.#insist(instance, signal, () => this.#record(instance, { seq, before, after }));
      if (entries.length > 0) await this.#insist(instance, signal, () => kept.append(revision, entries, { instance, seq }));
    } catch (error) {
      // A full disk costs the lines that come meanwhile, not those after it. They are counted.
      log.warn({ instance, lines: entries.length, error: messageOf(error) }, 'lines of a function could not be kept');
      if (entries.length > 0) kept.drop(revision, entries);
    }
  }

  /** Throws where the store is away. */
  async #record(instance: string, record: z.infer<typeof ReaderRecord>): Promise<void> {
    const { log, records } = this.#options;
    try {
      await records.writeLogPosition(instance, JSON.stringify(record));
    } catch (error) {
      if (error instanceof FnError) throw error;
      // The lines are worth more than that they come once, should the controller be killed now.
      log.warn({ instance, error: messageOf(error) }, 'the place in the output of an instance could not be recorded');
    }
  }

  /**
   * Before an instance is killed. With `lastWords` it may finish what it was writing, for a fifth of a
   * second at most; one that was idle has none.
   */
  async end(instance: string, lastWords: boolean): Promise<void> {
    const follower = this.#followers.get(instance);
    if (!follower) return;
    follower.last = true;
    if (lastWords) await Promise.race([follower.done, sleep(LAST_WORDS_MS)]);
    follower.abort.abort();
    await follower.done;
  }

  /** Stops reading; where it stopped is recorded. */
  async close(): Promise<void> {
    const followers = [...this.#followers.values()];
    for (const follower of followers) follower.abort.abort();
    await Promise.all(followers.map((follower) => follower.done));
  }
}

/** The lines that a chunk completes, and a word about what the driver lost before it. */
function entriesOfChunk({ lines, revision, instance }: Reader, chunk: LogChunk, now: number): LogEntry[] {
  const raw = lines[chunk.stream];
  const entries: LogEntry[] = [];
  if (chunk.lostBytes !== undefined) {
    // The end of what was pending is among it.
    const cut = raw.flush();
    if (cut !== null) entries.push(toEntry(cut, chunk.stream, revision, instance, now));
    entries.push({ t: now, level: 'warn', stream: 'sys', msg: lostOutput(chunk.lostBytes, TYPICAL_LINE_BYTES), revision, instance });
  }
  const at = Math.min(now, chunk.at ?? now);
  for (const line of raw.push(chunk.data)) entries.push(toEntry(line, chunk.stream, revision, instance, at));
  return entries;
}

/** What there is of lines that have not ended and never will. */
function restOf({ lines, revision, instance }: Reader, now: number): LogEntry[] {
  return (['stdout', 'stderr'] as const).flatMap((stream) => {
    const rest = lines[stream].flush();
    return rest === null ? [] : [toEntry(rest, stream, revision, instance, now)];
  });
}

function parseRecord(text: string | null): z.infer<typeof ReaderRecord> | null {
  if (text === null) return null;
  try {
    return ReaderRecord.parse(JSON.parse(text));
  } catch {
    // Cut off by a crash of the host: lines given twice are better than lines lost.
    return null;
  }
}
