/**
 * Logs of functions: read from the instances as long as they live (log-readers.ts), kept after they are gone (in the home, or
 * in the store where controllers share no home), by function, in segments (log-segments.ts), up to the bytes and the age that
 * the function's access says.
 */
import type { LogRetention } from '#contract/access.ts';
import type { LogEntry, LogStats } from '#contract/log.ts';
import { parseRevisionKey } from '#contract/names.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { LogSelection } from '../api/platform.ts';
import { messageOf } from './context.ts';
import { matches, readAscending, readNewest } from './log-query.ts';
import { LogReaders, type KeptLines, type ReadLogs } from './log-readers.ts';
import { LogRoom } from './log-room.ts';
import { type BatchOf, isExpired, LogSegments } from './log-segments.ts';
import { LogTail } from './log-tail.ts';
import type { InstanceRecords, LogFiles } from '../store/types.ts';

/** Deleted functions that are remembered, so that the last words of their instances make no new file. */
const MAX_REMOVED = 10_000;
/** How often logs are looked through for lines that are too old, ms. */
const EXPIRE_EVERY_MS = 60_000;

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
  readonly #readers: LogReaders;
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
    this.#readers = new LogReaders({ kept: this.#kept(), records: options.records, clock, log });
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
    this.#readers.follow(instance, revision, read);
  }

  /**
   * Before an instance is killed. With `lastWords` it may finish what it was writing, for a fifth of a
   * second at most; one that was idle has none.
   */
  end(instance: string, lastWords: boolean): Promise<void> {
    return this.#readers.end(instance, lastWords);
  }

  #kept(): KeptLines {
    return {
      committed: (revision, instance) =>
        this.#queued(keyOf(revision), async () =>
          this.#isRemoved(revision) ? 0 : (await this.#segments(keyOf(revision))).committed(instance),
        ),
      append: (revision, entries, of) => this.#append(revision, entries, of),
      drop: (revision, entries) => this.#drop(revision, entries),
      // Of a log that is not open nothing is known here, and that of a function that was deleted is not to be opened again.
      forget: (revision, instance) => this.#queued(keyOf(revision), async () => this.#open.get(keyOf(revision))?.forget(instance)),
    };
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
    await this.#readers.close();
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
