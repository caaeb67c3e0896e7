/** One open database: its prepared statements, and its errors in words. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { FnError } from '#contract/errors.ts';
import { replaced } from '../stored.ts';
import { storeError } from './errors.ts';
import { transaction } from './schema.ts';

export class Connection {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #statements = new Map<string, StatementSync>();
  /** Under which we write; null until it was raised: then no write is fenced. */
  #term: number | null = null;

  readonly #onReplaced: () => void;

  /** `path`: for messages. `onReplaced` hears of each write that another's term has refused. */
  constructor(db: DatabaseSync, path: string, onReplaced: () => void = () => {}) {
    this.#db = db;
    this.#path = path;
    this.#onReplaced = onReplaced;
  }

  prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** Throws FnError store-unavailable for what SQLite says, and once the store is closed. */
  run<T>(run: () => T): T {
    if (!this.#db.isOpen)
      throw new FnError('store-unavailable', 'The store is closed: the controller is shutting down.', { retryAfterSeconds: 1 });
    try {
      return run();
    } catch (error) {
      throw storeError(error, this.#path);
    }
  }

  /** As run(), all of it or nothing. */
  transaction<T>(run: () => T): T {
    return this.run(() => transaction(this.#db, run));
  }

  /** As transaction(), under our term. Throws FnError not-leader, and then nothing is changed, where another has raised it since. */
  write<T>(run: () => T): T {
    try {
      return this.transaction(() => {
        if (this.#term !== null) {
          const now = this.term();
          if (now !== this.#term) throw replaced(this.#term, now);
        }
        return run();
      });
    } catch (error) {
      if (error instanceof FnError && error.code === 'not-leader') this.#onReplaced();
      throw error;
    }
  }

  /** Inside of run(). 0: it was never raised. */
  term(): number {
    return Number(this.prepare(`SELECT CAST(value AS INTEGER) AS term FROM meta WHERE key = 'term'`).get()?.term ?? 0);
  }

  /** Inside of run(). Whether nobody has raised the term since we did; false where we never did. */
  holdsTerm(): boolean {
    return this.#term !== null && this.term() === this.#term;
  }

  /** From now on write() is for this term only. */
  writeUnder(term: number): void {
    this.#term = term;
  }

  /** Idempotent. */
  close(): void {
    if (!this.#db.isOpen) return;
    this.#statements.clear();
    this.#db.close();
  }
}

export { parseJson } from '../stored.ts';
