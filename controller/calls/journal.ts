/**
 * The journal of calls: what gateways told of requests, in a SQLite file of its own, so that a flood of
 * it touches nothing that matters. It may be lost: synchronous is NORMAL, a file that is damaged is set
 * aside and begun anew, and no failure of it reaches a caller.
 */
import { closeSync, openSync, renameSync, rmSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { answerMs, CallRecord, type CallQuery, hasFailed, wasCold } from '#contract/call.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';

/** How often old records are removed, ms. */
const PRUNE_EVERY_MS = 60_000;
/** Records removed at a time: some 10 ms of the event loop. */
const PRUNE_BATCH = 5_000;
/** A journal that failed is opened again after this, ms. */
const REOPEN_AFTER_MS = 10_000;
/** Primary result codes of SQLite: the file is damaged; it is no database. */
const DAMAGED = new Set([11, 26]);

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS calls (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL, trace TEXT, namespace TEXT NOT NULL, name TEXT NOT NULL, t INTEGER NOT NULL,
    failed INTEGER NOT NULL, slow INTEGER NOT NULL, cold INTEGER NOT NULL, body TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS calls_by_id ON calls (id, namespace);
  CREATE INDEX IF NOT EXISTS calls_by_trace ON calls (trace, namespace) WHERE trace IS NOT NULL;
  CREATE INDEX IF NOT EXISTS calls_by_function ON calls (namespace, name, t);
  CREATE INDEX IF NOT EXISTS calls_by_time ON calls (t);
`;

export interface JournalOptions {
  path: string;
  clock: Clock;
  log: Log;
  /** Records that are kept; the oldest go first. Some 600 bytes each. */
  maxRecords: number;
  maxAgeMs: number;
  /** From so long on a call is listed as slow, ms. */
  slowMs: number;
}

interface Statements {
  insert: StatementSync;
  byId: StatementSync;
  byTrace: StatementSync;
  list: StatementSync;
}

export class CallJournal {
  readonly #options: JournalOptions;
  #db: DatabaseSync | null = null;
  #statements: Statements | null = null;
  #retryAt = 0;
  #cancelPrune: () => void = () => {};
  /** Records that could not be written. */
  lost = 0;

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#open();
    this.#pruneLater();
  }

  /** Adds records, in one transaction. */
  add(calls: readonly CallRecord[]): void {
    if (calls.length === 0) return;
    const done = this.#try('written', ({ insert }, db) => {
      db.exec('BEGIN');
      try {
        for (const call of calls) insert.run(...this.#row(call));
        db.exec('COMMIT');
      } catch (error) {
        if (db.isTransaction) db.exec('ROLLBACK');
        throw error;
      }
      return true;
    });
    if (done !== true) this.lost += calls.length;
  }

  #row(call: CallRecord): (string | number | null)[] {
    const slow = answerMs(call) >= this.#options.slowMs;
    const flags = [hasFailed(call), slow, wasCold(call)].map(Number);
    return [call.id, call.traceId ?? null, call.namespace, call.name, Math.round(call.t), ...flags, JSON.stringify(call)];
  }

  /** Calls with this request id, or of this trace, the newest first. */
  find(namespace: string, id: string, limit: number): CallRecord[] {
    const rows = this.#try('read', ({ byId, byTrace }) => {
      const byRequest = byId.all(id, namespace, limit);
      return byRequest.length > 0 ? byRequest : byTrace.all(id, namespace, limit);
    });
    return records(rows ?? []);
  }

  /** Of one function, the newest first. */
  list(namespace: string, name: string, { failed, slow, cold, since = 0, limit = 50 }: CallQuery): CallRecord[] {
    const wanted = [failed, slow, cold].map((flag) => (flag === undefined ? null : Number(flag)));
    const rows = this.#try('read', ({ list }) => list.all(namespace, name, since, ...wanted.flatMap((flag) => [flag, flag]), limit));
    return records(rows ?? []);
  }

  /** Idempotent. */
  close(): void {
    this.#cancelPrune();
    this.#shut();
  }

  /** null where it failed; that is logged, and the file set aside where it is damaged. */
  #try<T>(what: string, work: (statements: Statements, db: DatabaseSync) => T): T | null {
    if (this.#db === null && this.#options.clock.now() >= this.#retryAt) this.#open();
    if (this.#db === null || this.#statements === null) return null;
    try {
      return work(this.#statements, this.#db);
    } catch (error) {
      this.#failed(error, what);
      return null;
    }
  }

  #open(): void {
    try {
      this.#prepare();
    } catch (error) {
      this.#failed(error, 'opened');
      // Set aside: what takes its place is new.
      if (!isDamaged(error)) return;
      try {
        this.#prepare();
      } catch (again) {
        this.#failed(again, 'begun anew');
      }
    }
  }

  #prepare(): void {
    const { path } = this.#options;
    closeSync(openSync(path, 'a', 0o600));
    const db = new DatabaseSync(path);
    this.#db = db;
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 4194304;');
    db.exec(SCHEMA);
    const columns = 'SELECT body FROM calls';
    this.#statements = {
      insert: db.prepare('INSERT INTO calls (id, trace, namespace, name, t, failed, slow, cold, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)'),
      byId: db.prepare(`${columns} WHERE id = ? AND namespace = ? ORDER BY t DESC, seq DESC LIMIT ?`),
      byTrace: db.prepare(`${columns} WHERE trace = ? AND namespace = ? ORDER BY t DESC, seq DESC LIMIT ?`),
      list: db.prepare(
        `${columns} WHERE namespace = ? AND name = ? AND t >= ? AND (? IS NULL OR failed = ?) AND (? IS NULL OR slow = ?) AND (? IS NULL OR cold = ?)
         ORDER BY t DESC, seq DESC LIMIT ?`,
      ),
    };
  }

  #failed(error: unknown, what: string): void {
    const { log, path, clock } = this.#options;
    const message = error instanceof Error ? error.message : String(error);
    this.#shut();
    this.#retryAt = clock.now() + REOPEN_AFTER_MS;
    if (!isDamaged(error)) {
      log.warn({ path, error: message }, `the journal of calls could not be ${what}; it is tried again later`);
      return;
    }
    log.warn({ path, error: message, kept: `${path}.damaged` }, 'the journal of calls is damaged: it is set aside and begun anew');
    try {
      for (const ending of ['-wal', '-shm']) rmSync(`${path}${ending}`, { force: true });
      renameSync(path, `${path}.damaged`);
      this.#retryAt = 0;
    } catch (cause) {
      log.warn({ path, error: String(cause) }, 'the damaged journal of calls could not be set aside');
    }
  }

  #shut(): void {
    const db = this.#db;
    this.#db = null;
    this.#statements = null;
    try {
      if (db?.isOpen) db.close();
    } catch (error) {
      // It failed before, which was told.
      this.#options.log.debug({ error: String(error) }, 'the journal of calls was not closed cleanly');
    }
  }

  #pruneLater(ms = PRUNE_EVERY_MS): void {
    this.#cancelPrune = this.#options.clock.after(ms, () => this.#pruneLater(this.#prune() ? 0 : PRUNE_EVERY_MS));
  }

  /** True where there is more to remove: the rest in another turn. */
  #prune(): boolean {
    const { maxRecords, maxAgeMs, clock } = this.#options;
    const oldest = Math.round(clock.wall() - maxAgeMs);
    const removed = this.#try('pruned', (_statements, db) => {
      const old = db
        .prepare('DELETE FROM calls WHERE seq IN (SELECT seq FROM calls WHERE t < ? ORDER BY t LIMIT ?)')
        .run(oldest, PRUNE_BATCH);
      const keep = 'SELECT MAX(seq) FROM calls';
      const many = db
        .prepare(`DELETE FROM calls WHERE seq IN (SELECT seq FROM calls WHERE seq <= (${keep}) - ? ORDER BY seq LIMIT ?)`)
        .run(maxRecords, PRUNE_BATCH);
      return Math.max(Number(old.changes), Number(many.changes));
    });
    return removed === PRUNE_BATCH;
  }
}

function isDamaged(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' && DAMAGED.has(error.errcode & 0xff);
}

/** What is not as the contract has it, as from another version, is left out. */
function records(rows: readonly Record<string, unknown>[]): CallRecord[] {
  return rows.flatMap(({ body }) => {
    const parsed = CallRecord.safeParse(JSON.parse(String(body)));
    return parsed.success ? [parsed.data] : [];
  });
}
