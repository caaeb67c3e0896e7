/**
 * The schema of the database and its forward migrations. `user_version` counts the migrations that
 * were run; `application_id` tells our file from another program's.
 */
import type { DatabaseSync } from 'node:sqlite';
import { FnError } from '#contract/errors.ts';

/** "fndb" */
export const APPLICATION_ID = 0x66_6e_64_62;

/** Entry N brings version N to N + 1. Never edit one that was released: add another. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- The last number given to a function. Rows outlive the function: a number is never given twice.
  CREATE TABLE numbers (
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    last      INTEGER NOT NULL CHECK (last > 0),
    PRIMARY KEY (namespace, name)
  ) STRICT, WITHOUT ROWID;

  -- bundle is a column of its own so that a body that cannot be read still protects its bundle.
  CREATE TABLE revisions (
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    number    INTEGER NOT NULL CHECK (number > 0),
    bundle    TEXT NOT NULL,
    body      TEXT NOT NULL,
    PRIMARY KEY (namespace, name, number)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE functions (
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    number    INTEGER NOT NULL,
    PRIMARY KEY (namespace, name),
    FOREIGN KEY (namespace, name, number) REFERENCES revisions (namespace, name, number)
  ) STRICT, WITHOUT ROWID;
  `,
  // A function is shares of traffic and how it is reached; which revisions its shares name is checked by the store.
  `
  CREATE TABLE functions_2 (
    namespace  TEXT NOT NULL,
    name       TEXT NOT NULL,
    generation INTEGER NOT NULL CHECK (generation > 0),
    traffic    TEXT NOT NULL,
    access     TEXT NOT NULL,
    PRIMARY KEY (namespace, name)
  ) STRICT, WITHOUT ROWID;
  INSERT INTO functions_2 (namespace, name, generation, traffic, access)
    SELECT namespace, name, 1, json_array(json_object('revision', number, 'percent', 100)), '{}' FROM functions;
  DROP TABLE functions;
  ALTER TABLE functions_2 RENAME TO functions;
  `,
  // Tenants. Versions of secrets outlive them, as the numbers of functions do: what was sealed as one version is never another.
  `
  CREATE TABLE namespaces (
    name     TEXT PRIMARY KEY,
    settings TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE tokens (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    sha256     TEXT NOT NULL UNIQUE,
    body       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
  ) STRICT;

  CREATE TABLE secret_versions (
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    last      INTEGER NOT NULL CHECK (last > 0),
    PRIMARY KEY (namespace, name)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE secrets (
    namespace  TEXT NOT NULL,
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL CHECK (version > 0),
    updated_at INTEGER NOT NULL,
    sealed     BLOB NOT NULL,
    PRIMARY KEY (namespace, name)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE audit (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    t         INTEGER NOT NULL,
    namespace TEXT,
    body      TEXT NOT NULL
  ) STRICT;
  CREATE INDEX audit_of_namespace ON audit (namespace, id);

  CREATE TABLE artifacts (
    namespace TEXT NOT NULL,
    kind      TEXT NOT NULL,
    digest    TEXT NOT NULL,
    PRIMARY KEY (namespace, kind, digest)
  ) STRICT, WITHOUT ROWID;
  -- What was deployed before there were owners belongs to where it was deployed.
  INSERT INTO artifacts (namespace, kind, digest) SELECT DISTINCT namespace, 'bundle', bundle FROM revisions;
  `,
  // Images go when nothing has named them for a while; what was there before is as old as can be.
  `ALTER TABLE artifacts ADD COLUMN added_at INTEGER NOT NULL DEFAULT 0;`,
  // Who declares a function: an object of Kubernetes, as JSON; '' where there is none.
  `ALTER TABLE functions ADD COLUMN declared_by TEXT NOT NULL DEFAULT '';`,
  // What functions have used, as the accounting writes it.
  `
  CREATE TABLE usage (
    key  TEXT PRIMARY KEY,
    body TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  // When functions were used, for how long they are kept.
  `
  CREATE TABLE idle_times (
    key  TEXT PRIMARY KEY,
    body TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
];

/** The one number that a query returns in its one column. */
export function scalar(db: DatabaseSync, sql: string): number {
  const row = db.prepare(sql).get();
  const value = row === undefined ? undefined : Object.values(row)[0];
  if (typeof value !== 'number') throw new TypeError(`no number from: ${sql}`);
  return value;
}

/** Runs `run` in a transaction that takes the write lock at once: two writers queue instead of failing half-way. */
export function transaction<T>(db: DatabaseSync, run: () => T): T {
  db.exec('BEGIN IMMEDIATE');
  try {
    const result = run();
    db.exec('COMMIT');
    return result;
  } catch (error) {
    // Some errors (disk full, I/O) have rolled back by themselves.
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

/**
 * Brings the database to the newest version, each step in a transaction of its own. Throws FnError
 * store-unavailable for another program's file, and for one that a newer fn has written.
 */
export function migrate(
  db: DatabaseSync,
  path: string,
  migrations: readonly string[] = MIGRATIONS,
  applicationId: number = APPLICATION_ID,
): void {
  const application = scalar(db, 'PRAGMA application_id');
  const tables = scalar(db, 'SELECT count(*) FROM sqlite_schema');
  if (application !== applicationId && (application !== 0 || tables > 0)) {
    throw new FnError('store-unavailable', `${path} is the database of another program: move it away, or use another home.`);
  }
  for (;;) {
    const done = transaction(db, () => {
      // Read inside the transaction: another controller may be migrating the same file.
      const version = scalar(db, 'PRAGMA user_version');
      if (version > migrations.length) {
        throw new FnError(
          'store-unavailable',
          `${path} has schema ${version}, and this fn knows ${migrations.length} at most: it was written by a newer fn. Run that one, or use another home.`,
        );
      }
      const step = migrations[version];
      if (step === undefined) return true;
      db.exec(step);
      db.exec(`PRAGMA application_id = ${applicationId}`);
      db.exec(`PRAGMA user_version = ${version + 1}`);
      return false;
    });
    if (done) return;
  }
}
