/**
 * The event store on one host: SQLite in WAL mode with synchronous FULL, in the dispatcher's own process. What is
 * asked for in one turn of the event loop is one commit (group-commit.ts); a promise resolves after it.
 */
import { chmodSync, closeSync, openSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FnError } from '#contract/errors.ts';
import type { InvocationState } from '#contract/events.ts';
import type { Log } from '#kit/log.ts';
import {
  type Claim,
  type DeadLetterFilter,
  type EnqueueOutcome,
  type EventStore,
  type LaneInfo,
  MAX_LISTED_BYTES,
  type NewDeadLetter,
  type NewEvent,
  type Settlement,
  type StoredDeadLetter,
  type StoredEvent,
} from '../events.ts';
import { Connection } from './connection.ts';
import { bytesMissing, type DiskSpace, diskSpace } from './disk-room.ts';
import { storeError } from './errors.ts';
import { bytes, EVENT_COLUMNS, ms, number, type Row, toDeadLetter, toStored } from './events-rows.ts';
import { EVENTS_APPLICATION_ID, EVENTS_MIGRATIONS, STATE } from './events-schema.ts';
import { EventWrites } from './events-writes.ts';
import { GroupCommit } from './group-commit.ts';
import { migrate } from './schema.ts';

/** How long a write waits for another process's lock. It blocks the event loop, so it is short. */
const BUSY_TIMEOUT_MS = 2_000;
/**
 * Pages kept in memory, KiB: the inner pages of the indices of a million events. More would be taken where more events are kept, and
 * win nothing, since what is not here is in the kernel's own cache: with 200,000 that wait, an event costs 0.29 ms of CPU with this,
 * 0.30 ms with four times as much, and the process has 72 MiB less.
 */
const CACHE_KIB = 16_384;
/** What a burst of large commits has made of the write-ahead log is cut off to this, bytes. */
const WAL_KEPT_BYTES = 67_108_864;
/** What one forget() removes in one transaction: some 50 ms. */
const FORGET_CHUNK = 1_000;

export interface SqliteEventStoreOptions {
  /** File of the database, made with mode 0600; or `:memory:`. */
  path: string;
  log: Log;
  /** Of the disk that it is on. */
  space?: () => DiskSpace;
}

/** Free pages (4 KiB each) that the file keeps: 64 MiB. */
const FREE_PAGES_KEPT = 16_384;
/** Pages that one call of prune gives back: 16 MiB. */
const PAGES_GIVEN_BACK = 4_096;

/** Opens or makes the database and brings its schema up to date. Throws FnError store-unavailable, which says what to do. */
export function openSqliteEventStore({ path, log, space = () => diskSpace(path) }: SqliteEventStoreOptions): EventStore {
  let db: DatabaseSync | undefined;
  try {
    // SQLite gives its -wal and -shm files the mode of the database.
    if (path !== ':memory:') {
      closeSync(openSync(path, 'a', 0o600));
      chmodSync(path, 0o600);
    }
    db = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    // Of a file that is new: what is free of it can be given back.
    db.exec('PRAGMA auto_vacuum = INCREMENTAL');
    const mode = db.prepare('PRAGMA journal_mode = WAL').get()?.journal_mode;
    if (path !== ':memory:' && mode !== 'wal') {
      const advice = 'put the home on a local disk';
      throw new FnError('store-unavailable', `${path} is on a file system without shared memory (journal mode ${mode}): ${advice}.`);
    }
    db.exec('PRAGMA synchronous = FULL');
    db.exec(`PRAGMA journal_size_limit = ${WAL_KEPT_BYTES}`);
    db.exec(`PRAGMA cache_size = -${CACHE_KIB}`);
    migrate(db, path, EVENTS_MIGRATIONS, EVENTS_APPLICATION_ID);
    return new SqliteEventStore(db, path, log, path === ':memory:' ? null : space);
  } catch (error) {
    if (db?.isOpen) db.close();
    throw storeError(error, path);
  }
}

class SqliteEventStore implements EventStore {
  readonly #connection: Connection;
  readonly #log: Log;
  readonly #writes: EventWrites;
  readonly #commits: GroupCommit;
  readonly #space: (() => DiskSpace) | null;
  #closed = false;
  #full = false;

  /** `space`: null where it is on no disk. */
  constructor(db: DatabaseSync, path: string, log: Log, space: (() => DiskSpace) | null) {
    this.#log = log;
    this.#space = space;
    this.#connection = new Connection(db, path);
    const writes = new EventWrites(this.#connection);
    this.#writes = writes;
    this.#commits = new GroupCommit({
      db,
      connection: this.#connection,
      begin: () => writes.begin(),
      mark: () => writes.mark(),
      undo: () => writes.undo(),
      beforeCommit: () => writes.beforeCommit(),
    });
  }

  #write<T>(run: (writes: EventWrites) => T): Promise<T> {
    return this.#commits.write(() => run(this.#writes));
  }

  #all(sql: string, ...parameters: SQLInputValue[]): Row[] {
    return this.#connection.run(() => this.#connection.prepare(sql).all(...parameters));
  }

  join(owner: string, until: number): Promise<void> {
    return this.#write((writes) => writes.join(owner, until));
  }

  beat(owner: string, until: number): Promise<boolean> {
    return this.#write((writes) => writes.beat(owner, until));
  }

  leave(owner: string, _at: number): Promise<number> {
    return this.#write((writes) => writes.leave(owner));
  }

  async expire(at: number): Promise<number> {
    // Asked for every second, and next to always in vain: that costs no commit.
    if (this.#all('SELECT 1 FROM owners WHERE until <= ? LIMIT 1', ms(at)).length === 0) return 0;
    return await this.#write((writes) => writes.expire(at));
  }

  hasRoom(): boolean {
    const full = this.#bytesMissing() > 0;
    if (full !== this.#full) {
      if (full) this.#log.error({}, 'the disk of the event store is nearly full: no new events are accepted until there is room');
      else this.#log.info({}, 'the disk of the event store has room again');
    }
    this.#full = full;
    return !full;
  }

  /** Pages of the file that are free are room, too. */
  #bytesMissing(): number {
    if (this.#space === null || this.#closed) return 0;
    try {
      const missing = bytesMissing(this.#space());
      if (missing <= 0) return 0;
      const sql = 'SELECT freelist_count * page_size AS bytes FROM pragma_freelist_count, pragma_page_size';
      return missing - Number(this.#all(sql)[0]?.bytes);
    } catch (error) {
      // Nobody knows; if it is full, the write says so.
      this.#log.debug(
        { error: error instanceof Error ? error.message : String(error) },
        'the disk of the event store does not say what is free',
      );
      return 0;
    }
  }

  async enqueue(events: readonly NewEvent[], at: number, claimFor?: string): Promise<EnqueueOutcome[]> {
    if (events.length === 0) return [];
    return await this.#write((writes) => writes.enqueue(events, at, claimFor));
  }

  claim(owner: string, lanes: readonly { lane: string; limit: number }[], at: number): Promise<Claim[]> {
    return this.#write((writes) => writes.claim(owner, lanes, at));
  }

  async settle(settlements: readonly Settlement[]): Promise<('settled' | 'fenced')[]> {
    if (settlements.length === 0) return [];
    return await this.#write((writes) => writes.settle(settlements));
  }

  async get(id: string): Promise<StoredEvent | null> {
    const sql = `SELECT ${EVENT_COLUMNS}, b.payload FROM events e JOIN lanes l ON l.number = e.lane LEFT JOIN bodies b ON b.seq = e.seq WHERE e.id = ?`;
    const [row] = this.#all(sql, id);
    return row === undefined ? null : toStored(row, bytes(row.payload));
  }

  async result(id: string): Promise<Uint8Array | null> {
    const [row] = this.#all('SELECT b.result FROM events e JOIN bodies b ON b.seq = e.seq WHERE e.id = ?', id);
    return bytes(row?.result);
  }

  cancel(id: string, at: number, keptUntil: number): Promise<InvocationState | null> {
    return this.#write((writes) => writes.cancel(id, at, keptUntil));
  }

  async list(namespace: string, name: string, query: { state?: InvocationState | undefined; limit: number }): Promise<StoredEvent[]> {
    const lanes = this.#all(`SELECT number FROM lanes WHERE namespace = ? AND name = ? AND lane NOT LIKE '%>'`, namespace, name);
    const states = query.state === undefined ? Object.values(STATE) : [STATE[query.state]];
    const sql = 'SELECT seq FROM events WHERE lane = ? AND state = ? ORDER BY seq DESC LIMIT ?';
    const found = lanes.flatMap((lane) => states.flatMap((state) => this.#all(sql, Number(lane.number), state, query.limit)));
    const newest = found.map((row) => Number(row.seq)).toSorted((a, b) => b - a);
    return newest.slice(0, query.limit).flatMap((seq) => {
      const [row] = this.#all(`SELECT ${EVENT_COLUMNS} FROM events e JOIN lanes l ON l.number = e.lane WHERE e.seq = ?`, seq);
      return row === undefined ? [] : [toStored(row, null)];
    });
  }

  async lanes(at: number): Promise<LaneInfo[]> {
    const rows = this.#all('SELECT * FROM lanes WHERE waiting > 0 OR claimed > 0 OR dead > 0 ORDER BY lane');
    // The first of those that may be claimed; what waits for its order key is behind one that is claimed or in this index.
    const first = 'SELECT due_at FROM events INDEXED BY events_due WHERE lane = ? AND ready = 1 ORDER BY due_at LIMIT 1';
    return rows.map((row) => {
      const nextAt = Number(row.waiting) === 0 ? null : number(this.#all(first, Number(row.number))[0]?.due_at);
      return {
        lane: String(row.lane),
        namespace: String(row.namespace),
        name: String(row.name),
        waiting: Number(row.waiting),
        claimed: Number(row.claimed),
        nextAt,
        oldestAt: nextAt !== null && nextAt <= at ? nextAt : null,
        dead: Number(row.dead),
      };
    });
  }

  async addDead(letters: readonly NewDeadLetter[]): Promise<string[]> {
    // What they were made of is still in its broker, and stays there.
    if (!this.hasRoom()) throw new FnError('store-unavailable', 'The disk of the event store is nearly full: free some space.');
    return await this.#write((writes) => letters.map((letter) => writes.addDead(letter)));
  }

  async listDead(filter: DeadLetterFilter, query: { before?: string | undefined; limit: number }): Promise<StoredDeadLetter[]> {
    const { namespace, name } = filter;
    const trigger = filter.trigger ?? null;
    const before = query.before === undefined ? null : this.#deadPosition(query.before);
    if (before === undefined) return [];
    // Index only: which they are is known before the first of them is read.
    const sql = `SELECT seq FROM events INDEXED BY events_dead WHERE lane IN (SELECT number FROM lanes WHERE namespace = ?1 AND name = ?2) AND state = 4
      AND (?3 IS NULL OR trigger = ?3) AND (?4 IS NULL OR (finished_at, seq) < (?4, ?5)) ORDER BY finished_at DESC, seq DESC LIMIT ?6`;
    const found = this.#all(sql, namespace, name, trigger, before?.finishedAt ?? null, before?.seq ?? null, query.limit);
    const letters: StoredDeadLetter[] = [];
    let total = 0;
    for (const { seq = null } of found) {
      const letter = this.#deadLetter('e.seq = ?', seq);
      if (letter === null) continue;
      total += letter.event.payload.length;
      if (total > MAX_LISTED_BYTES && letters.length > 0) break;
      letters.push(letter);
    }
    return letters;
  }

  #deadPosition(id: string): { finishedAt: number; seq: number } | undefined {
    const [row] = this.#all(`SELECT finished_at, seq FROM events WHERE id = ? AND state = ${STATE.failed}`, id);
    return row === undefined ? undefined : { finishedAt: Number(row.finished_at), seq: Number(row.seq) };
  }

  #deadLetter(where: string, parameter: SQLInputValue): StoredDeadLetter | null {
    const sql = `SELECT ${EVENT_COLUMNS}, b.payload FROM events e JOIN lanes l ON l.number = e.lane LEFT JOIN bodies b ON b.seq = e.seq
      WHERE ${where} AND e.state = ${STATE.failed}`;
    const [row] = this.#all(sql, parameter);
    return row === undefined ? null : toDeadLetter(row, bytes(row.payload));
  }

  async countDead({ namespace, name, trigger }: DeadLetterFilter): Promise<number> {
    const sql = `SELECT count(*) AS count FROM events INDEXED BY events_dead
      WHERE lane IN (SELECT number FROM lanes WHERE namespace = ?1 AND name = ?2) AND state = 4 AND (?3 IS NULL OR trigger = ?3)`;
    return Number(this.#all(sql, namespace, name, trigger ?? null)[0]?.count);
  }

  async getDead(id: string): Promise<StoredDeadLetter | null> {
    return this.#deadLetter('e.id = ?', id);
  }

  redrive(ids: readonly string[], at: number, expiresAt: number): Promise<string[]> {
    return this.#write((writes) => ids.filter((id) => writes.redrive(id, at, expiresAt)));
  }

  purge(ids: readonly string[]): Promise<string[]> {
    return this.#write((writes) => ids.filter((id) => writes.purge(id)));
  }

  async prune(at: number, limit: number): Promise<number> {
    const pruned = await this.#write((writes) => writes.prune(at, limit));
    this.#giveBack();
    return pruned;
  }

  /** Pages that a burst has left free go back to the disk, a few at a time; some are kept for the next one. */
  #giveBack(): void {
    if (this.#closed) return;
    const free = Number(this.#all('SELECT freelist_count AS pages FROM pragma_freelist_count')[0]?.pages);
    if (free - FREE_PAGES_KEPT >= PAGES_GIVEN_BACK) this.#all(`PRAGMA incremental_vacuum(${PAGES_GIVEN_BACK})`);
  }

  async forget(namespace: string, name: string): Promise<number> {
    let forgotten = 0;
    for (;;) {
      const removed = await this.#write((writes) => writes.forget(namespace, name, FORGET_CHUNK));
      forgotten += removed;
      if (removed < FORGET_CHUNK) return forgotten;
      await nextTurn();
    }
  }

  async getState(key: string): Promise<string | null> {
    const [row] = this.#all('SELECT value FROM state WHERE key = ?', key);
    return row === undefined ? null : String(row.value);
  }

  putState(key: string, value: string): Promise<void> {
    const sql = 'INSERT INTO state (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value';
    return this.#commits.write(() => void this.#connection.prepare(sql).run(key, value));
  }

  deleteState(prefix: string): Promise<void> {
    const sql = 'DELETE FROM state WHERE substr(key, 1, length(?1)) = ?1';
    return this.#commits.write(() => void this.#connection.prepare(sql).run(prefix));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#commits.flush();
    this.#connection.close();
    this.#log.debug({}, 'the event store is closed');
  }
}
