/** One open database: its prepared statements, and its errors in words. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { FnError } from '#contract/errors.ts';
import { storeError } from './errors.ts';
import { transaction } from './schema.ts';

export class Connection {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #statements = new Map<string, StatementSync>();

  /** `path`: for messages. */
  constructor(db: DatabaseSync, path: string) {
    this.#db = db;
    this.#path = path;
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

  /** Idempotent. */
  close(): void {
    if (!this.#db.isOpen) return;
    this.#statements.clear();
    this.#db.close();
  }
}

/** undefined where it is not JSON: it fails the schema's check, which then names the row. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
