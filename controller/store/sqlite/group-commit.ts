/**
 * Many writes, one commit. A commit waits for the disk (0.2–20 ms on the event loop), so writes that
 * are asked for in one turn of the event loop share one: two thousand clients cost about what one does.
 */
import type { DatabaseSync } from 'node:sqlite';
import { FnError } from '#contract/errors.ts';
import type { Connection } from './connection.ts';

/** Calls in one commit; some 50 ms of writing, for so long the event loop stands still. */
const MAX_CALLS_PER_COMMIT = 1_000;
/** Calls that wait for a commit; beyond it the store says that it is unavailable. */
const MAX_WAITING_CALLS = 100_000;

interface Call {
  /** Returns what to resolve the call with, once it is on the disk. */
  run(): () => void;
  reject(error: unknown): void;
}

export interface GroupCommitOptions {
  db: DatabaseSync;
  connection: Connection;
  /** Once at the beginning of each transaction. */
  begin(): void;
  /** Before each commit, inside the transaction. */
  beforeCommit(): void;
  /** What has been done since the last mark() is undone. */
  undo(): void;
  mark(): void;
}

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #waiting: Call[] = [];
  #scheduled = false;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /** Resolves after its commit. What `run` throws is its own: its writes are undone, those of others are not. */
  write<T>(run: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length >= MAX_WAITING_CALLS) {
        reject(new FnError('store-unavailable', `${MAX_WAITING_CALLS} writes wait for the event store already.`, { retryAfterSeconds: 1 }));
        return;
      }
      this.#waiting.push({
        run() {
          const value = run();
          return () => resolve(value);
        },
        reject,
      });
      this.#schedule();
    });
  }

  /** Commits all that wait, now. */
  flush(): void {
    while (this.#waiting.length > 0) this.#commit();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#commit();
      if (this.#waiting.length > 0) this.#schedule();
    });
  }

  #commit(): void {
    const calls = this.#waiting.slice(0, MAX_CALLS_PER_COMMIT);
    this.#waiting = this.#waiting.slice(calls.length);
    if (calls.length === 0) return;
    const { connection } = this.#options;
    let settle: (() => void)[];
    try {
      settle = connection.transaction(() => this.#runAll(calls));
    } catch (error) {
      for (const call of calls) call.reject(error);
      return;
    }
    for (const done of settle) done();
  }

  #runAll(calls: readonly Call[]): (() => void)[] {
    this.#options.begin();
    const settle = calls.map((call) => this.#runOne(call));
    this.#options.beforeCommit();
    return settle;
  }

  #runOne(call: Call): () => void {
    const { db, connection } = this.#options;
    this.#options.mark();
    connection.prepare('SAVEPOINT call').run();
    try {
      const done = connection.run(() => call.run());
      connection.prepare('RELEASE call').run();
      return done;
    } catch (error) {
      // A full disk and a failed read undo the whole transaction: then nobody's writes are there.
      if (!db.isTransaction) throw error;
      connection.prepare('ROLLBACK TO call').run();
      connection.prepare('RELEASE call').run();
      this.#options.undo();
      return () => call.reject(error);
    }
  }
}
