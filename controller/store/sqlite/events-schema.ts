/**
 * The database of events, a file of its own: it is written thousands of times a second, and what it holds is
 * gone in hours, so it shares neither its commits nor its backups with functions and secrets.
 *
 * - `lanes`: one row per lane, with how many events wait, are claimed and are dead. They are kept in the
 *   transaction that changes them: to count a million rows takes longer than the event loop may stand still.
 * - `events`: one row per event and dead letter, small: the payload and the answer are in `bodies`, so a
 *   claim rewrites some 300 bytes however large the event is. `seq` is the order of enqueuing.
 * - `dedup`: keys outlive their events, so they have a table of their own.
 *
 * Events with the same order key are a queue in `events_order`; only its head can have `ready = 1`.
 */

/** "fnev" */
export const EVENTS_APPLICATION_ID = 0x66_6e_65_76;

/** `events.state`; the order matters: below ENDED it is not over. */
export const STATE = { queued: 0, retrying: 1, running: 2, succeeded: 3, failed: 4, cancelled: 5 } as const;

/** Entry N brings version N to N + 1. Never edit one that was released: add another. */
export const EVENTS_MIGRATIONS: readonly string[] = [
  `
  -- The numbers of lanes are never given twice: a process that was frozen must not write into another's lane.
  CREATE TABLE lanes (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    lane      TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    waiting   INTEGER NOT NULL DEFAULT 0,
    claimed   INTEGER NOT NULL DEFAULT 0,
    dead      INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX lanes_of_function ON lanes (namespace, name);

  CREATE TABLE events (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    lane       INTEGER NOT NULL,
    state      INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
    -- 1: it waits, and nothing with its order key is before it.
    ready      INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    fence      INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    first_at   INTEGER,
    owner      TEXT,
    claimed_at INTEGER,
    trigger    TEXT,
    order_key  TEXT,
    dedup      TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    finished_at INTEGER,
    kept_until INTEGER,
    request    TEXT,
    revision   TEXT,
    error      TEXT,
    result_info TEXT,
    reason     TEXT,
    message    TEXT
  ) STRICT;
  CREATE INDEX events_due ON events (lane, due_at) WHERE ready = 1;
  CREATE INDEX events_listed ON events (lane, state);
  CREATE INDEX events_order ON events (lane, order_key) WHERE order_key IS NOT NULL AND state < 3;
  CREATE INDEX events_owned ON events (owner) WHERE owner IS NOT NULL;
  CREATE INDEX events_kept ON events (kept_until) WHERE kept_until IS NOT NULL;
  CREATE INDEX events_dead ON events (lane, finished_at, seq, trigger) WHERE state = 4;
  CREATE UNIQUE INDEX events_message ON events (lane, coalesce(trigger, ''), message) WHERE message IS NOT NULL;

  CREATE TABLE bodies (
    seq     INTEGER PRIMARY KEY,
    payload BLOB,
    result  BLOB
  ) STRICT;

  -- trigger '': it was called.
  CREATE TABLE dedup (
    namespace   TEXT NOT NULL,
    name        TEXT NOT NULL,
    trigger     TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    id          TEXT NOT NULL,
    until       INTEGER NOT NULL,
    PRIMARY KEY (namespace, name, trigger, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX dedup_until ON dedup (until);

  CREATE TABLE owners (
    owner TEXT PRIMARY KEY,
    until INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE state (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
];
