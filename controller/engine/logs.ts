/**
 * Logs of functions: read from the instances as long as they live, kept in the home after they are
 * gone. One JSON line per entry, one file per function, two generations of at most 8 MiB.
 */
import { createReadStream } from 'node:fs';
import { appendFile, mkdir, rename, rm, stat } from 'node:fs/promises';
import { EventEmitter, on } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { LogEntry } from '#contract/api.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { MAX_LOG_LINE_BYTES, RuntimeLogLine } from '#contract/runtime.ts';
import { sleep } from '#kit/clock.ts';
import { LineSplitter, LineTooLong } from '#kit/ndjson.ts';
import type { Log } from '#kit/log.ts';
import type { LogChunk } from '../driver/types.ts';
import { messageOf } from './context.ts';
import type { Records } from './records.ts';

/** Size at which a function's file is turned over, bytes. The one before it is kept. */
const MAX_FILE_BYTES = 8 * 1024 * 1024;
/** Longest raw line that is read from an instance; JSON may take six bytes for one. */
const MAX_RAW_LINE_BYTES = 8 * MAX_LOG_LINE_BYTES;
/** Followers that do not read get the newest lines only, so many at most. */
const MAX_FOLLOW_BACKLOG = 10_000;
/** An instance that is to go may finish its last words for so long, ms. */
const LAST_WORDS_MS = 200;

interface Follower {
  abort: AbortController;
  done: Promise<void>;
}

export class FunctionLogs {
  readonly #folder: string;
  readonly #records: Records;
  readonly #log: Log;
  readonly #followers = new Map<string, Follower>();
  readonly #events = new EventEmitter<Record<string, [LogEntry]>>();
  /** Appends to one function's file happen one after the other. */
  readonly #queues = new Map<string, Promise<void>>();

  constructor(options: { folder: string; records: Records; log: Log }) {
    this.#folder = options.folder;
    this.#records = options.records;
    this.#log = options.log;
    this.#events.setMaxListeners(0);
  }

  /** Reads what the instance writes until it ends. Idempotent. */
  follow(instance: string, revision: string, read: (after: string | null, signal: AbortSignal) => AsyncIterable<LogChunk>): void {
    if (this.#followers.has(instance)) return;
    const abort = new AbortController();
    const done = this.#follow(instance, revision, read, abort.signal)
      .catch((error: unknown) => {
        if (!abort.signal.aborted) this.#log.warn({ instance, error: messageOf(error) }, 'reading the logs of an instance failed');
      })
      .finally(() => this.#followers.delete(instance));
    this.#followers.set(instance, { abort, done });
  }

  async #follow(instance: string, revision: string, read: (after: string | null, signal: AbortSignal) => AsyncIterable<LogChunk>, signal: AbortSignal): Promise<void> {
    const splitters = { stdout: new LineSplitter(MAX_RAW_LINE_BYTES), stderr: new LineSplitter(MAX_RAW_LINE_BYTES) };
    const start = await this.#records.logPosition(instance);
    for await (const chunk of read(start, signal)) {
      let lines: string[];
      try {
        lines = splitters[chunk.stream].push(chunk.data);
      } catch (error) {
        if (!(error instanceof LineTooLong)) throw error;
        splitters[chunk.stream] = new LineSplitter(MAX_RAW_LINE_BYTES);
        lines = [];
      }
      if (lines.length === 0) continue;
      const entries = lines.map((line) => toEntry(line, chunk.stream, revision, instance));
      await this.#append(revision, entries);
      await this.#records.writeLogPosition(instance, chunk.position);
    }
  }

  /**
   * Before an instance is killed. With `lastWords` it may finish what it was writing, for a fifth of a
   * second at most; one that was idle has none.
   */
  async end(instance: string, lastWords: boolean): Promise<void> {
    const follower = this.#followers.get(instance);
    if (!follower) return;
    if (lastWords) await Promise.race([follower.done, sleep(LAST_WORDS_MS)]);
    follower.abort.abort();
    await follower.done;
  }

  /** A line in the platform's own words, under the function's name. */
  async note(revision: string, instance: string, level: LogEntry['level'], msg: string, t: number): Promise<void> {
    await this.#append(revision, [{ t, level, stream: 'sys', msg, revision, instance }]);
  }

  #file(namespace: string, name: string): string {
    return join(this.#folder, namespace, `${name}.jsonl`);
  }

  #append(revision: string, entries: LogEntry[]): Promise<void> {
    const { namespace, name } = parseRevisionKey(revision);
    const key = `${namespace}/${name}`;
    const before = this.#queues.get(key) ?? Promise.resolve();
    const mine = before.then(() => this.#write(namespace, name, entries));
    // A failed write is reported to its caller; the next one must not fail with it.
    const settled = mine.catch(() => undefined);
    this.#queues.set(key, settled);
    void settled.then(() => {
      if (this.#queues.get(key) === settled) this.#queues.delete(key);
    });
    for (const entry of entries) this.#events.emit(key, entry);
    return mine;
  }

  async #write(namespace: string, name: string, entries: LogEntry[]): Promise<void> {
    const file = this.#file(namespace, name);
    await mkdir(join(this.#folder, namespace), { recursive: true, mode: 0o700 });
    await appendFile(file, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''), { mode: 0o600 });
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) await rename(file, `${file}.1`);
  }

  /** Entries in the order in which they were read. Ends with the newest, or with `follow` when aborted. */
  async *read(
    namespace: string,
    name: string,
    options: { follow: boolean; since?: number; limit?: number },
    signal: AbortSignal,
  ): AsyncGenerator<LogEntry> {
    const key = `${namespace}/${name}`;
    // Listening begins before the file is read, so that no line falls between the two.
    const live = options.follow
      ? on(this.#events, key, { signal, highWaterMark: MAX_FOLLOW_BACKLOG, lowWaterMark: 1 })
      : null;
    const seen: LogEntry[] = [];
    await this.#queues.get(key);
    const file = this.#file(namespace, name);
    for (const path of [`${file}.1`, file]) {
      for await (const entry of readEntries(path)) {
        if (options.since !== undefined && entry.t < options.since) continue;
        seen.push(entry);
        if (options.limit !== undefined && seen.length > options.limit) seen.shift();
      }
    }
    yield* seen;
    if (!live) return;
    const given = new Set(seen.slice(-1_000).map((entry) => JSON.stringify(entry)));
    try {
      for await (const [entry] of live as AsyncIterable<[LogEntry]>) {
        if (given.delete(JSON.stringify(entry))) continue;
        yield entry;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** Removes the logs of a function that was deleted. */
  async remove(namespace: string, name: string): Promise<void> {
    const file = this.#file(namespace, name);
    await Promise.all([rm(file, { force: true }), rm(`${file}.1`, { force: true })]);
  }

  /** Stops reading; where it stopped is recorded. */
  async close(): Promise<void> {
    const followers = [...this.#followers.values()];
    for (const follower of followers) follower.abort.abort();
    await Promise.all(followers.map((follower) => follower.done));
    await Promise.all(this.#queues.values());
  }
}

async function* readEntries(path: string): AsyncGenerator<LogEntry> {
  try {
    await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    const parsed = LogEntry.safeParse(parseJson(line));
    // A line cut off by a crash of the host is left out.
    if (parsed.success) yield parsed.data;
  }
}

/** A line of the shim's, or, from a runtime that crashed or a library that writes by itself, just text. */
function toEntry(line: string, stream: 'stdout' | 'stderr', revision: string, instance: string): LogEntry {
  const parsed = RuntimeLogLine.safeParse(parseJson(line));
  if (parsed.success) {
    const { t, level, msg, req } = parsed.data;
    return { t, level, stream: parsed.data.stream, msg: msg.slice(0, MAX_LOG_LINE_BYTES), revision, instance, ...(req === undefined ? {} : { req: req.slice(0, 200) }) };
  }
  const error = stream === 'stderr';
  return { t: Date.now(), level: error ? 'error' : 'info', stream: error ? 'err' : 'out', msg: line.slice(0, MAX_LOG_LINE_BYTES), revision, instance };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // Not JSON: the caller takes it as text.
    return null;
  }
}
