/**
 * The store on one host: SQLite in WAL mode with synchronous FULL, so a promise that resolved is on
 * the disk. A commit takes some 0.2–2 ms on the event loop; deployments and terms are the only
 * writers, a few a second at most, so they are not grouped.
 */
import { chmodSync, closeSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { FnError } from '#contract/errors.ts';
import type { Revision } from '#contract/function.ts';
import { newSecret } from '#kit/ids.ts';
import type { Log } from '#kit/log.ts';
import {
  changed,
  functionNotFound,
  readFunction,
  readRevisions,
  revisionIsThere,
  servingNumbers,
  unlessDamaged,
  writableRevision,
} from '../stored.ts';
import type { FunctionChange, FunctionRecord, Store } from '../types.ts';
import { Connection } from './connection.ts';
import { isConstraint, storeError } from './errors.ts';
import { bootId, hostTime, SqliteLeadership } from './leadership.ts';
import { migrate } from './schema.ts';
import { SqliteTenancy } from './tenancy.ts';

/** How long a write waits for another process's lock. It blocks the event loop, so it is short. */
const BUSY_TIMEOUT_MS = 2_000;

export const IN_MEMORY = ':memory:';

export interface SqliteStoreOptions {
  /** File of the database, made with mode 0600; or IN_MEMORY. */
  path: string;
  log: Log;
  /** Hears that another controller has taken over: a write was refused. */
  onReplaced?: () => void;
  /** Milliseconds that every process of this host counts alike and no clock change moves, for leases; and which boot they are of. */
  now?: () => number;
  boot?: string;
}

/** Tables of a text by a key. */
type RowTable = 'usage' | 'idle_times';
interface RowChange {
  set: ReadonlyMap<string, string>;
  remove: readonly string[];
}

interface Row {
  namespace: string;
  name: string;
  number: number;
  body: string;
}

/** Opens or makes the database and brings its schema up to date. Throws FnError store-unavailable, which says what to do. */
export function openSqliteStore(options: SqliteStoreOptions): Store {
  let db: DatabaseSync | undefined;
  try {
    if (options.path !== IN_MEMORY) makePrivate(options.path);
    db = new DatabaseSync(options.path, { enableForeignKeyConstraints: true, timeout: BUSY_TIMEOUT_MS });
    prepare(db, options.path);
    return new SqliteStore(db, options);
  } catch (error) {
    if (db?.isOpen) db.close();
    throw storeError(error, options.path);
  }
}

/** SQLite gives its -wal and -shm files the mode of the database. */
function makePrivate(path: string): void {
  closeSync(openSync(path, 'a', 0o600));
  chmodSync(path, 0o600);
}

function prepare(db: DatabaseSync, path: string): void {
  const mode = db.prepare('PRAGMA journal_mode = WAL').get()?.journal_mode;
  if (path !== IN_MEMORY && mode !== 'wal') {
    throw new FnError(
      'store-unavailable',
      `${path} is on a file system without shared memory (journal mode ${mode}): put the home on a local disk.`,
    );
  }
  db.exec('PRAGMA synchronous = FULL');
  // Some ms: the database holds a few MB at most. A damaged page is found now, not in a deployment.
  const check = db.prepare('PRAGMA quick_check(1)').get()?.quick_check;
  if (check !== 'ok') {
    throw new FnError(
      'store-unavailable',
      `${path} is damaged (${check}): stop fn, keep a copy, and restore it from a backup or move it away to begin anew.`,
    );
  }
  migrate(db, path);
}

class SqliteStore extends SqliteTenancy implements Store {
  readonly #log: Log;
  readonly #leadership: SqliteLeadership;

  constructor(db: DatabaseSync, { path, log, onReplaced, now = hostTime, boot = bootId() }: SqliteStoreOptions) {
    super(new Connection(db, path, onReplaced));
    this.#log = log;
    this.#leadership = new SqliteLeadership(this.connection, now, boot);
  }

  async campaign(candidate: string, ttlMs: number): Promise<boolean> {
    return this.#leadership.campaign(candidate, ttlMs);
  }

  async resign(candidate: string): Promise<void> {
    this.#leadership.resign(candidate);
  }

  async leader(): Promise<string | null> {
    return this.#leadership.leader();
  }

  async raiseTerm(): Promise<number> {
    return this.#leadership.raiseTerm();
  }

  async holdsTerm(): Promise<boolean> {
    return this.connection.run(() => this.connection.holdsTerm());
  }

  async installationId(): Promise<string> {
    return this.connection.transaction(() => {
      this.connection.prepare(`INSERT INTO meta (key, value) VALUES ('installation', ?) ON CONFLICT (key) DO NOTHING`).run(newSecret());
      return String(this.connection.prepare(`SELECT value FROM meta WHERE key = 'installation'`).get()?.value);
    });
  }

  async reserveRevision(namespace: string, name: string): Promise<number> {
    const sql = `INSERT INTO numbers (namespace, name, last) VALUES (?, ?, 1)
      ON CONFLICT (namespace, name) DO UPDATE SET last = last + 1 RETURNING last`;
    return this.connection.write(() => Number(this.connection.prepare(sql).get(namespace, name)?.last));
  }

  async commitRevision(revision: Revision, change: FunctionChange): Promise<FunctionRecord> {
    const checked = writableRevision(revision);
    const { namespace, name } = checked;
    try {
      return this.connection.write(() => {
        this.#insertRevision(checked);
        return this.#change(namespace, name, change);
      });
    } catch (error) {
      if (isConstraint(error)) throw revisionIsThere(checked.key, error);
      throw error;
    }
  }

  #insertRevision(revision: Revision): void {
    const { namespace, name, number } = revision;
    this.connection
      .prepare('INSERT INTO revisions (namespace, name, number, bundle, body) VALUES (?, ?, ?, ?, ?)')
      .run(namespace, name, number, revision.bundle, JSON.stringify(revision));
    // A revision that was restored rather than reserved must still keep its number from being given again.
    this.connection
      .prepare(
        'INSERT INTO numbers (namespace, name, last) VALUES (?, ?, ?) ON CONFLICT (namespace, name) DO UPDATE SET last = max(last, excluded.last)',
      )
      .run(namespace, name, number);
  }

  async changeFunction(namespace: string, name: string, change: FunctionChange): Promise<FunctionRecord> {
    return this.connection.write(() => {
      if (this.#function(namespace, name) === null) throw functionNotFound(namespace, name);
      return this.#change(namespace, name, change);
    });
  }

  /** Inside a transaction. Makes the function where there is none. */
  #change(namespace: string, name: string, change: FunctionChange): FunctionRecord {
    const rows = this.#rows('SELECT namespace, name, number, body FROM revisions WHERE namespace = ? AND name = ?', namespace, name);
    const kept = new Set(rows.map((row) => row.number));
    const { traffic, access, declaredBy } = changed(name, this.#function(namespace, name), change, kept);
    const sql = `INSERT INTO functions (namespace, name, generation, traffic, access, declared_by) VALUES (?, ?, 1, ?, ?, ?)
      ON CONFLICT (namespace, name) DO UPDATE SET generation = generation + 1, traffic = excluded.traffic, access = excluded.access,
        declared_by = excluded.declared_by`;
    const declared = declaredBy === undefined ? '' : JSON.stringify(declaredBy);
    this.connection.prepare(sql).run(namespace, name, JSON.stringify(traffic), JSON.stringify(access), declared);
    return this.#function(namespace, name)!;
  }

  async removeRevisions(namespace: string, name: string, numbers: readonly number[]): Promise<number[]> {
    return this.connection.write(() => {
      const used = new Set(this.#function(namespace, name)?.traffic.map((share) => share.revision));
      const sql = 'DELETE FROM revisions WHERE namespace = ? AND name = ? AND number = ?';
      return numbers.filter((number) => !used.has(number) && Number(this.connection.prepare(sql).run(namespace, name, number).changes) > 0);
    });
  }

  async getFunction(namespace: string, name: string): Promise<FunctionRecord | null> {
    return this.connection.run(() => this.#function(namespace, name));
  }

  #function(namespace: string, name: string): FunctionRecord | null {
    const row = this.connection
      .prepare('SELECT generation, traffic, access, declared_by FROM functions WHERE namespace = ? AND name = ?')
      .get(namespace, name);
    if (row === undefined) return null;
    const stored = {
      namespace,
      name,
      generation: Number(row.generation),
      traffic: String(row.traffic),
      access: String(row.access),
      declaredBy: String(row.declared_by),
    };
    return readFunction(stored, this.#revisionsOf(namespace, name, servingNumbers(stored.traffic)));
  }

  #revisionsOf(namespace: string, name: string, serving: ReadonlySet<number>): Revision[] {
    const sql = 'SELECT namespace, name, number, body FROM revisions WHERE namespace = ? AND name = ? ORDER BY number DESC';
    return readRevisions({ namespace, name }, this.#rows(sql, namespace, name), serving, this.#log);
  }

  async listFunctions(namespace?: string): Promise<FunctionRecord[]> {
    const sql = 'SELECT namespace, name FROM functions WHERE ?1 IS NULL OR namespace = ?1 ORDER BY namespace, name';
    const rows = this.connection.run(() => this.connection.prepare(sql).all(namespace ?? null));
    const names = rows.map((row) => ({ namespace: String(row.namespace), name: String(row.name) }));
    const found = names.map((of) => unlessDamaged(of, this.#log, () => this.connection.run(() => this.#function(of.namespace, of.name))));
    return (await Promise.all(found)).flat();
  }

  async deleteFunction(namespace: string, name: string): Promise<boolean> {
    return this.connection.write(() => {
      const { changes } = this.connection.prepare('DELETE FROM functions WHERE namespace = ? AND name = ?').run(namespace, name);
      this.connection.prepare('DELETE FROM revisions WHERE namespace = ? AND name = ?').run(namespace, name);
      return Number(changes) > 0;
    });
  }

  async bundlesInUse(): Promise<Set<string>> {
    return this.connection.run(
      () =>
        new Set(
          this.connection
            .prepare('SELECT DISTINCT bundle FROM revisions')
            .all()
            .map((row) => String(row.bundle)),
        ),
    );
  }

  loadUsage(): Promise<Map<string, string>> {
    return this.#loadRows('usage');
  }

  saveUsage(change: RowChange): Promise<void> {
    return this.#saveRows('usage', change);
  }

  loadIdleTimes(): Promise<Map<string, string>> {
    return this.#loadRows('idle_times');
  }

  saveIdleTimes(change: RowChange): Promise<void> {
    return this.#saveRows('idle_times', change);
  }

  async #loadRows(table: RowTable): Promise<Map<string, string>> {
    const rows = this.connection.run(() => this.connection.prepare(`SELECT key, body FROM ${table}`).all());
    return new Map(rows.map((row) => [String(row.key), String(row.body)]));
  }

  async #saveRows(table: RowTable, { set, remove }: RowChange): Promise<void> {
    this.connection.write(() => {
      const put = this.connection.prepare(
        `INSERT INTO ${table} (key, body) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET body = excluded.body`,
      );
      for (const [key, body] of set) put.run(key, body);
      for (const key of remove) this.connection.prepare(`DELETE FROM ${table} WHERE key = ?`).run(key);
    });
  }

  async close(): Promise<void> {
    this.connection.close();
  }

  #rows(sql: string, ...parameters: (string | null)[]): Row[] {
    return this.connection
      .prepare(sql)
      .all(...parameters)
      .map((row) => ({ namespace: String(row.namespace), name: String(row.name), number: Number(row.number), body: String(row.body) }));
  }
}
