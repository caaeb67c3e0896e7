/**
 * The store on one host: SQLite in WAL mode with synchronous FULL, so a promise that resolved is on
 * the disk. A commit takes some 0.2–2 ms on the event loop; deployments and terms are the only
 * writers, a few a second at most, so they are not grouped.
 */
import { chmodSync, closeSync, openSync } from 'node:fs';
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import { FunctionAccess } from '#contract/access.ts';
import { FnError } from '#contract/errors.ts';
import { Revision, Traffic } from '#contract/function.ts';
import { revisionKey } from '#contract/names.ts';
import { newSecret } from '#kit/ids.ts';
import type { Log } from '#kit/log.ts';
import type { FunctionChange, FunctionRecord, Store } from '../types.ts';
import { Connection, parseJson } from './connection.ts';
import { isConstraint, storeError } from './errors.ts';
import { migrate } from './schema.ts';
import { SqliteTenancy } from './tenancy.ts';

/** How long a write waits for another process's lock. It blocks the event loop, so it is short. */
const BUSY_TIMEOUT_MS = 2_000;

export const IN_MEMORY = ':memory:';

export interface SqliteStoreOptions {
  /** File of the database, made with mode 0600; or IN_MEMORY. */
  path: string;
  log: Log;
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

  constructor(db: DatabaseSync, { path, log }: SqliteStoreOptions) {
    super(new Connection(db, path));
    this.#log = log;
  }

  async raiseTerm(): Promise<number> {
    const sql = `INSERT INTO meta (key, value) VALUES ('term', '1')
      ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) RETURNING CAST(value AS INTEGER) AS term`;
    return this.connection.run(() => Number(this.connection.prepare(sql).get()?.term));
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
    return this.connection.run(() => Number(this.connection.prepare(sql).get(namespace, name)?.last));
  }

  async commitRevision(revision: Revision, change: FunctionChange): Promise<FunctionRecord> {
    // What cannot be read again must not get in.
    const checked = Revision.parse(revision);
    const { namespace, name, number } = checked;
    if (checked.key !== revisionKey(namespace, name, number))
      throw new TypeError(`the key ${checked.key} is not that of ${namespace}/${name}@${number}`);
    try {
      return this.connection.transaction(() => {
        this.#insertRevision(checked);
        return this.#change(namespace, name, change);
      });
    } catch (error) {
      if (isConstraint(error)) throw new FnError('conflict', `Revision ${checked.key} is there already.`, { cause: error });
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
    return this.connection.transaction(() => {
      if (this.#function(namespace, name) === null) throw functionNotFound(namespace, name);
      return this.#change(namespace, name, change);
    });
  }

  /** Inside a transaction. Makes the function where there is none. */
  #change(namespace: string, name: string, { traffic, access, ifGeneration }: FunctionChange): FunctionRecord {
    const before = this.#function(namespace, name);
    if (ifGeneration !== undefined && before?.generation !== ifGeneration)
      throw new FnError(
        'precondition-failed',
        `The function ${name} has changed: it is at ${before?.generation ?? 'nothing'}, not ${ifGeneration}.`,
      );
    const shares = Traffic.parse(traffic ?? before?.traffic);
    const kept = new Set(
      this.#rows('SELECT namespace, name, number, body FROM revisions WHERE namespace = ? AND name = ?', namespace, name).map(
        (row) => row.number,
      ),
    );
    for (const { revision } of shares)
      if (!kept.has(revision))
        throw new FnError('revision-not-found', `There is no revision ${revision} of ${name}; there is: ${[...kept].join(', ')}.`);
    const sql = `INSERT INTO functions (namespace, name, generation, traffic, access) VALUES (?, ?, 1, ?, ?)
      ON CONFLICT (namespace, name) DO UPDATE SET generation = generation + 1, traffic = excluded.traffic, access = excluded.access`;
    this.connection
      .prepare(sql)
      .run(namespace, name, JSON.stringify(shares), JSON.stringify(FunctionAccess.parse(access ?? before?.access ?? {})));
    return this.#function(namespace, name)!;
  }

  async removeRevisions(namespace: string, name: string, numbers: readonly number[]): Promise<number[]> {
    return this.connection.transaction(() => {
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
      .prepare('SELECT generation, traffic, access FROM functions WHERE namespace = ? AND name = ?')
      .get(namespace, name);
    if (row === undefined) return null;
    const traffic = Traffic.safeParse(parseJson(String(row.traffic)));
    const serving = new Set(traffic.data?.map((share) => share.revision));
    return readFunction(namespace, name, row, this.#revisionsOf(namespace, name, serving));
  }

  /** One that cannot be read and has no traffic is left out and logged: a damaged old revision must not keep its function from being served. */
  #revisionsOf(namespace: string, name: string, serving: ReadonlySet<number>): Revision[] {
    const sql = 'SELECT namespace, name, number, body FROM revisions WHERE namespace = ? AND name = ? ORDER BY number DESC';
    return this.#rows(sql, namespace, name).flatMap((row) => {
      try {
        return readRevision(row);
      } catch (error) {
        if (!(error instanceof FnError) || serving.has(row.number)) throw error;
        this.#log.error(
          { function: `${namespace}/${name}`, err: error.message },
          'a revision without traffic is left out: it cannot be read',
        );
        return [];
      }
    });
  }

  /** One that cannot be read is left out and logged: one damaged function must not keep all others from being served. */
  async listFunctions(namespace?: string): Promise<FunctionRecord[]> {
    const sql = 'SELECT namespace, name FROM functions WHERE ?1 IS NULL OR namespace = ?1 ORDER BY namespace, name';
    return this.connection.run(() =>
      this.connection
        .prepare(sql)
        .all(namespace ?? null)
        .flatMap((row) => {
          const of = { namespace: String(row.namespace), name: String(row.name) };
          try {
            return this.#function(of.namespace, of.name) ?? [];
          } catch (error) {
            if (!(error instanceof FnError)) throw error;
            this.#log.error({ function: `${of.namespace}/${of.name}`, err: error.message }, 'a function is left out: it cannot be read');
            return [];
          }
        }),
    );
  }

  async deleteFunction(namespace: string, name: string): Promise<boolean> {
    return this.connection.transaction(() => {
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

const functionNotFound = (namespace: string, name: string) =>
  new FnError('function-not-found', `There is no function ${name} in the namespace ${namespace}.`);

/** Throws FnError store-unavailable that names the function. */
function readFunction(namespace: string, name: string, row: Record<string, SQLOutputValue>, revisions: Revision[]): FunctionRecord {
  const traffic = Traffic.safeParse(parseJson(String(row.traffic)));
  const access = FunctionAccess.safeParse(parseJson(String(row.access)));
  const kept = new Set(revisions.map((revision) => revision.number));
  if (traffic.success && access.success && traffic.data.every((share) => kept.has(share.revision)))
    return { namespace, name, traffic: traffic.data, access: access.data, generation: Number(row.generation), revisions };
  throw new FnError(
    'store-unavailable',
    `The stored function ${namespace}/${name} cannot be read. Deploy it again, or restore the database from a backup.`,
  );
}

/** Throws FnError store-unavailable that names the row. */
function readRevision(row: Row): Revision {
  const key = revisionKey(row.namespace, row.name, row.number);
  const parsed = Revision.safeParse(parseJson(row.body));
  if (parsed.success && parsed.data.key === key) return parsed.data;
  const issue = parsed.error?.issues[0];
  const why = issue === undefined ? `it says it is ${parsed.data?.key}` : `${issue.path.join('/') || 'the whole'}: ${issue.message}`;
  throw new FnError(
    'store-unavailable',
    `The stored revision ${key} cannot be read (${why}). Deploy the function again, or restore the database from a backup.`,
  );
}
