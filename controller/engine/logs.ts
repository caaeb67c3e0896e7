/**
 * Logs of functions: read from the instances as long as they live, kept after they are gone (in the home, or
 * in the store where controllers share no home), by function, in segments (log-segments.ts), up to the bytes and the age that
 * the function's access says.
 *
 * Each batch of lines is written in two steps, so that a controller that is killed between them leaves
 * no line twice and none out: first the reader's record says what is about to be written and where it
 * will be after it, then the batch is appended with a commit. The next controller looks for the commit.
 *
 * While the store is away nothing is read on: what instances write waits where the driver keeps it. Lines that cannot be kept
 * for another reason, as on a full disk, are lost and counted.
 */
import { z } from 'zod';
import type { LogRetention } from '#contract/access.ts';
import { FnError } from '#contract/errors.ts';
import type { LogEntry, LogStats } from '#contract/log.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { backoffMs } from '#kit/backoff.ts';
import { sleep, type Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { LogSelection } from '../api/platform.ts';
import type { LogChunk } from '../driver/types.ts';
import { messageOf } from './context.ts';
import { LogPace } from './log-pace.ts';
import { LogBatch } from './log-batch.ts';
import { lostOutput, RawLines, toEntry } from './log-lines.ts';
import { matches, readAscending, readNewest } from './log-query.ts';
import { LogRoom } from './log-room.ts';
import { type BatchOf, isExpired, LogSegments } from './log-segments.ts';
import { LogTail } from './log-tail.ts';
import type { InstanceRecords, LogFiles } from '../store/types.ts';

/** An instance that is to go may finish its last words for so long, ms. */
const LAST_WORDS_MS = 200;
/** When reading from an instance breaks, it is begun again after 0.1, 0.2 … 5 s. */
const READ_AGAIN = { baseMs: 100, maxMs: 5_000, jitter: 0.25 };
/** A store that is away is tried again after 0.1, 0.2 … 2 s. */
const WRITE_AGAIN = { baseMs: 100, maxMs: 2_000, jitter: 0.25 };
/** Deleted functions that are remembered, so that the last words of their instances make no new file. */
const MAX_REMOVED = 10_000;
/** How often logs are looked through for lines that are too old, ms. */
const EXPIRE_EVERY_MS = 60_000;
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

export interface FunctionLogsOptions {
  /** Where they are kept. */
  files: LogFiles;
  records: InstanceRecords;
  clock: Clock;
  log: Log;
  /** What is kept of a function's log. */
  retention: (namespace: string, name: string) => LogRetention;
  /** Hears every line once it was kept: for the export. Must not throw, and must not wait. */
  onEntries?: ((entries: readonly LogEntry[]) => void) | undefined;
}

export class FunctionLogs {
  readonly #options: FunctionLogsOptions;
  readonly #followers = new Map<string, Follower>();
  readonly #tails = new Map<string, Set<LogTail>>();
  readonly #open = new Map<string, LogSegments>();
  /** What concerns one function's files happens one after the other. */
  readonly #queues = new Map<string, Promise<unknown>>();
  /** By function that was deleted: its highest revision by then. */
  readonly #removed = new Map<string, number>();
  readonly #room: LogRoom;
  #cancelExpire: () => void = () => {};
  #closed = false;

  constructor(options: FunctionLogsOptions) {
    this.#options = options;
    const { files, clock, log } = options;
    const removeOldest = (key: string) =>
      this.#exclusive(key, (segments) => segments.removeOldest(options.retention(...namesOf(key)), clock.wall()));
    this.#room = new LogRoom({ files, clock, log, removeOldest });
    this.#expireLater();
  }

  /** Functions whose logs are open: where their files end is known here. */
  get opened(): number {
    return this.#open.size;
  }

  /** Lines that were never kept, of all functions whose logs are open. */
  get dropped(): number {
    return [...this.#open.values()].reduce((sum, segments) => sum + segments.dropped, 0);
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
        await sleep(backoffMs(failures, READ_AGAIN), signal).catch(() => undefined);
      }
    }
    await batch.flush();
    if (signal.aborted && !follower.last) return;
    const rest = restOf(reader, clock.wall());
    if (rest.length > 0) await this.#keep(reader, rest, position);
    // Of a log that is not open nothing is known here, and that of a function that was deleted is not to be opened again.
    await this.#queued(keyOf(revision), async () => this.#open.get(keyOf(revision))?.forget(instance));
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
        await sleep(backoffMs(failures, WRITE_AGAIN), signal).catch(() => undefined);
      }
    }
  }

  /** Goes on where the last one was: after its newest batch, if that was kept. */
  async #reader(instance: string, revision: string, signal: AbortSignal): Promise<Reader> {
    const record = parseRecord(await this.#options.records.logPosition(instance));
    const committed = await this.#queued(keyOf(revision), async () =>
      this.#isRemoved(revision) ? 0 : (await this.#segments(keyOf(revision))).committed(instance),
    );
    const seq = Math.max(record?.seq ?? 0, committed);
    const place = record === null ? NOWHERE : committed >= record.seq ? record.after : record.before;
    const pending = (text: string) => new RawLines(Buffer.from(text, 'base64'));
    return { instance, revision, signal, seq, place, lines: { stdout: pending(place.stdout), stderr: pending(place.stderr) } };
  }

  async #keep(reader: Reader, entries: LogEntry[], position: string | null): Promise<void> {
    const { log } = this.#options;
    const { instance, revision, lines, signal } = reader;
    const after: Place = { position, stdout: lines.stdout.pending.toString('base64'), stderr: lines.stderr.pending.toString('base64') };
    const seq = entries.length > 0 ? reader.seq + 1 : reader.seq;
    const before = entries.length > 0 ? reader.place : after;
    reader.seq = seq;
    reader.place = after;
    try {
      await this.#insist(instance, signal, () => this.#record(instance, { seq, before, after }));
      if (entries.length > 0) await this.#insist(instance, signal, () => this.#append(revision, entries, { instance, seq }));
    } catch (error) {
      // A full disk costs the lines that come meanwhile, not those after it. They are counted.
      log.warn({ instance, lines: entries.length, error: messageOf(error) }, 'lines of a function could not be kept');
      if (entries.length > 0) this.#drop(revision, entries);
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

  /** A line in the platform's own words, under the function's name. */
  async note(revision: string, instance: string, level: LogEntry['level'], msg: string, t: number): Promise<void> {
    const entries: LogEntry[] = [{ t, level, stream: 'sys', msg, revision, instance }];
    try {
      await this.#append(revision, entries, null);
    } catch (error) {
      this.#drop(revision, entries);
      throw error;
    }
  }

  /** Its log went with its function: of what it still writes nothing is kept. Inside of #queued(). */
  #isRemoved(revision: string): boolean {
    return parseRevisionKey(revision).number <= (this.#removed.get(keyOf(revision)) ?? 0);
  }

  /** Inside of #queued(). */
  async #segments(key: string): Promise<LogSegments> {
    let segments = this.#open.get(key);
    if (!segments) {
      segments = await LogSegments.open(this.#options.files, key);
      this.#open.set(key, segments);
    }
    return segments;
  }

  /** A job on a function's files, which are open. */
  #exclusive<T>(key: string, job: (segments: LogSegments) => Promise<T>): Promise<T> {
    return this.#queued(key, async () => job(await this.#segments(key)));
  }

  /** One job on a function's files after another, however the one before ended. */
  #queued<T>(key: string, job: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(key) ?? Promise.resolve();
    const mine = before.then(job);
    // A failure is reported to its caller; the next job must not fail with it.
    const settled = mine.catch(() => undefined);
    this.#queues.set(key, settled);
    void settled.then(() => {
      if (this.#queues.get(key) === settled) this.#queues.delete(key);
    });
    return mine;
  }

  /** Where it throws nothing was kept, and it can be tried again. */
  async #append(revision: string, entries: LogEntry[], of: BatchOf): Promise<void> {
    const { clock, retention, log } = this.#options;
    const key = keyOf(revision);
    const [namespace, name] = namesOf(key);
    await this.#queued(key, async () => {
      if (this.#isRemoved(revision)) return;
      const segments = await this.#segments(key);
      const limits = retention(namespace, name);
      await segments.append(entries, of, limits, clock.wall());
      // After the file has them, so that who begins to follow gets each line once: from there or from here.
      this.#tell(key, entries);
      await segments.expire(limits, clock.wall()).catch((error: unknown) => {
        log.warn({ function: key, error: messageOf(error) }, 'old lines of a function could not be removed; trying again with the next');
      });
    });
    this.#room.look();
  }

  /** They will never be kept. Who follows the log has them all the same. */
  #drop(revision: string, entries: LogEntry[]): void {
    const key = keyOf(revision);
    this.#tell(key, entries);
    // Of a log that is not open nobody can count, for what it says cannot be read.
    this.#open.get(key)?.drop(entries.length);
  }

  #tell(key: string, entries: LogEntry[]): void {
    for (const tail of this.#tails.get(key) ?? []) for (const entry of entries) tail.push(entry);
    this.#options.onEntries?.(entries);
  }

  /** Entries by time. Ends with the newest, or with `follow` when aborted or when the function is deleted. */
  async *read(namespace: string, name: string, selection: LogSelection, signal: AbortSignal): AsyncGenerator<LogEntry> {
    const key = `${namespace}/${name}`;
    const { follow, limit, ...asked } = selection;
    const { maxAgeSeconds } = this.#options.retention(namespace, name);
    // To the line: a segment goes only when all of it is too old.
    const kept = this.#options.clock.wall() - maxAgeSeconds * 1_000;
    const filter = { ...asked, since: Math.max(asked.since ?? 0, kept) };
    const tail = follow ? new LogTail() : null;
    // Between two writes: the tail begins where the files, as long as they are now, end.
    const { segments, read } = await this.#exclusive(key, async (log) => {
      if (tail) this.#tails.set(key, (this.#tails.get(key) ?? new Set()).add(tail));
      return { segments: log.snapshot(), read: (seq: number) => log.read(seq) };
    });
    try {
      const reader = { segments, read, filter, signal };
      if (limit === undefined) yield* readAscending(reader);
      else yield* await readNewest(reader, limit);
      if (tail) for await (const entry of tail.entries(signal)) if (matches(entry, asked)) yield entry;
    } finally {
      if (tail) this.#tails.get(key)?.delete(tail);
      if (this.#tails.get(key)?.size === 0) this.#tails.delete(key);
    }
  }

  async stats(namespace: string, name: string): Promise<LogStats> {
    const now = this.#options.clock.wall();
    const retention = this.#options.retention(namespace, name);
    return this.#exclusive(`${namespace}/${name}`, async (log) => {
      await log.expire(retention, now);
      const oldest = Math.min(...log.snapshot().map(({ from, to }) => (from <= to && to > 0 ? from : Infinity)));
      const kept = now - retention.maxAgeSeconds * 1_000;
      return { bytes: log.bytes, droppedLines: log.dropped, oldest: Number.isFinite(oldest) ? Math.max(oldest, kept) : null };
    });
  }

  /** Removes the logs of a function that was deleted; what revisions up to `through` still write is dropped. */
  async remove(namespace: string, name: string, through: number): Promise<void> {
    const key = `${namespace}/${name}`;
    await this.#queued(key, async () => {
      this.#removed.delete(key);
      this.#removed.set(key, through);
      const [oldest] = this.#removed.keys();
      if (this.#removed.size > MAX_REMOVED && oldest !== undefined) this.#removed.delete(oldest);
      for (const tail of this.#tails.get(key) ?? []) tail.end();
      this.#open.delete(key);
      await this.#options.files.removeLog(key);
    });
  }

  #expireLater(): void {
    this.#cancelExpire = this.#options.clock.after(EXPIRE_EVERY_MS, () => {
      void this.#expireAll()
        .catch((error: unknown) => this.#options.log.warn({ error: messageOf(error) }, 'logs could not be looked through for old lines'))
        .finally(() => {
          if (!this.#closed) this.#expireLater();
        });
    });
  }

  /** Those of functions that write nothing any more, too. */
  async #expireAll(): Promise<void> {
    const { files, clock, retention } = this.#options;
    for (const key of await files.logs()) {
      if (this.#closed) return;
      const limits = retention(...namesOf(key));
      if (this.#open.has(key) || (await isExpired(files, key, limits, clock.wall())))
        await this.#exclusive(key, (log) => log.expire(limits, clock.wall()));
    }
  }

  /** Stops reading; where it stopped is recorded. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelExpire();
    const followers = [...this.#followers.values()];
    for (const follower of followers) follower.abort.abort();
    await Promise.all(followers.map((follower) => follower.done));
    await this.#room.close();
    await Promise.all(this.#queues.values());
    for (const tails of this.#tails.values()) for (const tail of tails) tail.end();
  }
}

function keyOf(revision: string): string {
  const { namespace, name } = parseRevisionKey(revision);
  return `${namespace}/${name}`;
}

function namesOf(key: string): [namespace: string, name: string] {
  const [namespace = '', name = ''] = key.split('/');
  return [namespace, name];
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
