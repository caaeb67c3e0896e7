/**
 * Logs of functions: read from the instances as long as they live, kept in the home after they are
 * gone. One JSON line per entry, one file per function, two generations of at most 8 MiB.
 */
import { appendFile, mkdir, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import type { LogEntry } from '#contract/api.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { backoffMs } from '#kit/backoff.ts';
import { sleep, type Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { LogChunk } from '../driver/types.ts';
import { messageOf } from './context.ts';
import { LogPace } from './log-pace.ts';
import { LogBatch } from './log-batch.ts';
import { parseEntry, RawLines, toEntry } from './log-lines.ts';
import { LogTail } from './log-tail.ts';
import type { Records } from './records.ts';

/** Size at which a function's file is turned over, bytes. The one before it is kept. */
export const MAX_FILE_BYTES = 8 * 1024 * 1024;
/** An instance that is to go may finish its last words for so long, ms. */
const LAST_WORDS_MS = 200;
/** When reading from an instance breaks, it is begun again after 0.1, 0.2 … 5 s. */
const READ_AGAIN = { baseMs: 100, maxMs: 5_000, jitter: 0.25 };
/** Deleted functions that are remembered, so that the last words of their instances make no new file. */
const MAX_REMOVED = 10_000;

/** What an instance wrote, from a position of the driver's on (null: from its start). */
export type ReadLogs = (after: string | null, signal: AbortSignal) => AsyncIterable<LogChunk>;

interface Follower {
  abort: AbortController;
  done: Promise<void>;
  /** It is about to be killed: a line that has not ended will not go on. */
  last: boolean;
}

/** Where a reader is: the driver's position, and what it had read of lines that had not ended (base64). */
const Place = z.object({ position: z.string(), stdout: z.string().default(''), stderr: z.string().default('') });

interface Generation {
  handle: FileHandle;
  bytes: number;
}

export class FunctionLogs {
  readonly #folder: string;
  readonly #records: Records;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #followers = new Map<string, Follower>();
  readonly #tails = new Map<string, Set<LogTail>>();
  /** What concerns one function's files happens one after the other. */
  readonly #queues = new Map<string, Promise<unknown>>();
  /** By function that was deleted: its highest revision by then. */
  readonly #removed = new Map<string, number>();

  constructor(options: { folder: string; records: Records; clock: Clock; log: Log }) {
    this.#folder = options.folder;
    this.#records = options.records;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Reads what the instance writes until it ends. Idempotent. */
  follow(instance: string, revision: string, read: ReadLogs): void {
    if (this.#followers.has(instance)) return;
    const follower: Follower = { abort: new AbortController(), done: Promise.resolve(), last: false };
    this.#followers.set(instance, follower);
    follower.done = this.#follow(instance, revision, read, follower)
      .catch((error: unknown) => this.#log.warn({ instance, error: messageOf(error) }, 'reading the logs of an instance failed'))
      .finally(() => this.#followers.delete(instance));
  }

  async #follow(instance: string, revision: string, read: ReadLogs, follower: Follower): Promise<void> {
    const { signal } = follower.abort;
    const place = parsePlace(await this.#records.logPosition(instance));
    const lines = {
      stdout: new RawLines(Buffer.from(place?.stdout ?? '', 'base64')),
      stderr: new RawLines(Buffer.from(place?.stderr ?? '', 'base64')),
    };
    let position = place?.position ?? null;
    // What a batch holds and where it ends are taken in the same turn, so they belong together.
    const batch = new LogBatch<LogEntry>((entries) => this.#keep(instance, revision, entries, position, lines));
    const pace = new LogPace(this.#clock);
    for (let failures = 0; !signal.aborted;) {
      try {
        for await (const chunk of read(position, signal)) {
          failures = 0;
          const complete = lines[chunk.stream].push(chunk.data);
          position = chunk.position;
          await batch.add(complete.map((line) => toEntry(line, chunk.stream, revision, instance, this.#clock.wall())));
          const pauseMs = pace.take(chunk.data.length);
          if (pauseMs > 0) await sleep(pauseMs, signal);
        }
        break;
      } catch (error) {
        if (signal.aborted) break;
        failures += 1;
        if (failures === 1) this.#log.warn({ instance, error: messageOf(error) }, 'the logs of an instance cannot be read; trying again');
        await sleep(backoffMs(failures, READ_AGAIN), signal).catch(() => undefined);
      }
    }
    await batch.flush();
    if (signal.aborted && !follower.last) return;
    for (const stream of ['stdout', 'stderr'] as const) {
      const rest = lines[stream].flush();
      if (rest !== null) await this.#append(revision, [toEntry(rest, stream, revision, instance, this.#clock.wall())]);
    }
  }

  async #keep(
    instance: string,
    revision: string,
    entries: LogEntry[],
    position: string | null,
    lines: Record<'stdout' | 'stderr', RawLines>,
  ): Promise<void> {
    const place = { position, stdout: lines.stdout.pending.toString('base64'), stderr: lines.stderr.pending.toString('base64') };
    try {
      if (entries.length > 0) await this.#append(revision, entries);
      await this.#records.writeLogPosition(instance, JSON.stringify(place));
    } catch (error) {
      // A full disk costs the lines that come meanwhile, not those after it.
      this.#log.warn({ instance, lines: entries.length, error: messageOf(error) }, 'lines of a function could not be kept');
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
    await this.#append(revision, [{ t, level, stream: 'sys', msg, revision, instance }]);
  }

  #file(key: string): string {
    return join(this.#folder, `${key}.jsonl`);
  }

  /** One job on a function's files after another, however the one before ended. */
  #exclusive<T>(key: string, job: () => Promise<T>): Promise<T> {
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

  #append(revision: string, entries: LogEntry[]): Promise<void> {
    const { namespace, name, number } = parseRevisionKey(revision);
    const key = `${namespace}/${name}`;
    return this.#exclusive(key, async () => {
      if (number <= (this.#removed.get(key) ?? 0)) return;
      try {
        await this.#write(join(this.#folder, namespace), this.#file(key), entries);
      } finally {
        // After the file has them, so that who begins to follow gets each line once: from there or from here.
        for (const tail of this.#tails.get(key) ?? []) for (const entry of entries) tail.push(entry);
      }
    });
  }

  async #write(folder: string, file: string, entries: LogEntry[]): Promise<void> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await appendFile(file, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''), { mode: 0o600 });
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) await rename(file, `${file}.1`);
  }

  /** Entries in the order in which they were read. Ends with the newest, or with `follow` when aborted or when the function is deleted. */
  async *read(
    namespace: string,
    name: string,
    options: { follow: boolean; since?: number; limit?: number },
    signal: AbortSignal,
  ): AsyncGenerator<LogEntry> {
    const key = `${namespace}/${name}`;
    const tail = options.follow ? new LogTail() : null;
    // Between two writes: the tail begins where the files, as long as they are now, end.
    const generations = await this.#exclusive(key, async () => {
      const opened = await openGenerations([`${this.#file(key)}.1`, this.#file(key)]);
      if (tail) this.#tails.set(key, (this.#tails.get(key) ?? new Set()).add(tail));
      return opened;
    });
    try {
      yield* newest(entriesOf(generations, options.since, signal), options.limit);
      if (tail) yield* tail.entries(signal);
    } finally {
      await Promise.all(generations.map(({ handle }) => handle.close()));
      if (tail) this.#tails.get(key)?.delete(tail);
      if (this.#tails.get(key)?.size === 0) this.#tails.delete(key);
    }
  }

  /** Removes the logs of a function that was deleted; what revisions up to `through` still write is dropped. */
  async remove(namespace: string, name: string, through: number): Promise<void> {
    const key = `${namespace}/${name}`;
    await this.#exclusive(key, async () => {
      this.#removed.delete(key);
      this.#removed.set(key, through);
      const [oldest] = this.#removed.keys();
      if (this.#removed.size > MAX_REMOVED && oldest !== undefined) this.#removed.delete(oldest);
      for (const tail of this.#tails.get(key) ?? []) tail.end();
      await Promise.all([rm(this.#file(key), { force: true }), rm(`${this.#file(key)}.1`, { force: true })]);
    });
  }

  /** Stops reading; where it stopped is recorded. */
  async close(): Promise<void> {
    const followers = [...this.#followers.values()];
    for (const follower of followers) follower.abort.abort();
    await Promise.all(followers.map((follower) => follower.done));
    await Promise.all(this.#queues.values());
    for (const tails of this.#tails.values()) for (const tail of tails) tail.end();
  }
}

function parsePlace(text: string | null): z.infer<typeof Place> | null {
  if (text === null) return null;
  try {
    return Place.parse(JSON.parse(text));
  } catch {
    // Cut off by a crash of the host: lines given twice are better than lines lost.
    return null;
  }
}

/** Those of the files that are there, with their present length. */
async function openGenerations(paths: string[]): Promise<Generation[]> {
  const opened: Generation[] = [];
  for (const path of paths) {
    try {
      const handle = await open(path, 'r');
      opened.push({ handle, bytes: (await handle.stat()).size });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return opened;
}

async function* entriesOf(generations: Generation[], since: number | undefined, signal: AbortSignal): AsyncGenerator<LogEntry> {
  for (const { handle, bytes } of generations) {
    if (bytes === 0) continue;
    const stream = handle.createReadStream({ start: 0, end: bytes - 1, autoClose: false });
    for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) {
      if (signal.aborted) return;
      const entry = parseEntry(line);
      if (entry && entry.t >= (since ?? 0)) yield entry;
    }
  }
}

/** The last so many; all of them, as they come, without a limit. */
async function* newest(entries: AsyncGenerator<LogEntry>, limit: number | undefined): AsyncGenerator<LogEntry> {
  if (limit === undefined) {
    yield* entries;
    return;
  }
  let kept: LogEntry[] = [];
  for await (const entry of entries) {
    kept.push(entry);
    if (kept.length >= 2 * limit) kept = kept.slice(-limit);
  }
  yield* kept.slice(-limit);
}
