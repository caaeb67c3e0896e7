/**
 * What changes events, each inside a transaction that the caller has begun. Whole millions of events may wait: each
 * of these looks at what it changes, by an index, and at nothing else.
 */
import type { SQLInputValue, SQLOutputValue } from 'node:sqlite';
import { FnError } from '#contract/errors.ts';
import type { InvocationState } from '#contract/events.ts';
import type { Claim, EnqueueOutcome, NewDeadLetter, NewEvent, Settlement } from '../events.ts';
import type { Connection } from './connection.ts';
import { bytes, ENDED, json, ms, type Row, stateOf, toClaim, toEvent } from './events-rows.ts';
import { STATE } from './events-schema.ts';

type Counter = 'waiting' | 'claimed' | 'dead';

const counterOf = (state: number): Counter | null => {
  if (state === STATE.queued || state === STATE.retrying) return 'waiting';
  if (state === STATE.running) return 'claimed';
  return state === STATE.failed ? 'dead' : null;
};

/** An order key's head: nothing with the key is before it and not over. */
const ORDER_TAKEN = 'SELECT 1 FROM events INDEXED BY events_order WHERE lane = ? AND order_key = ? AND state < 3 LIMIT 1';

export class EventWrites {
  readonly #connection: Connection;
  /** Of this transaction only: another process may remove a lane that is empty. */
  readonly #lanes = new Map<string, number>();
  /** How the counts of lanes change in this transaction; a log, so that what is undone can be cut off. */
  readonly #changes: { lane: number; counter: Counter; by: number }[] = [];
  #marked = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  begin(): void {
    this.#lanes.clear();
    this.#changes.length = 0;
  }

  mark(): void {
    this.#marked = this.#changes.length;
  }

  undo(): void {
    // A lane that was made meanwhile is not there any more.
    this.#lanes.clear();
    this.#changes.length = this.#marked;
  }

  /** Writes the counts. */
  beforeCommit(): void {
    const sums = new Map<number, Record<Counter, number>>();
    for (const { lane, counter, by } of this.#changes) {
      let sum = sums.get(lane);
      if (sum === undefined) sums.set(lane, (sum = { waiting: 0, claimed: 0, dead: 0 }));
      sum[counter] += by;
    }
    const sql = 'UPDATE lanes SET waiting = waiting + ?, claimed = claimed + ?, dead = dead + ? WHERE number = ?';
    for (const [lane, { waiting, claimed, dead }] of sums)
      if (waiting !== 0 || claimed !== 0 || dead !== 0) this.#run(sql, waiting, claimed, dead, lane);
  }

  join(owner: string, until: number): void {
    this.#run('INSERT INTO owners (owner, until) VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET until = excluded.until', owner, ms(until));
  }

  beat(owner: string, until: number): boolean {
    return this.#run('UPDATE owners SET until = ? WHERE owner = ?', ms(until), owner) > 0;
  }

  leave(owner: string): number {
    this.#run('DELETE FROM owners WHERE owner = ?', owner);
    const claimed = this.#all('SELECT seq, lane, first_at FROM events WHERE owner = ?', owner);
    for (const row of claimed) this.#free(row, 0);
    return claimed.length;
  }

  expire(at: number): number {
    const over = this.#all('SELECT owner FROM owners WHERE until <= ?', ms(at));
    return over.reduce((sum, row) => sum + this.leave(String(row.owner)), 0);
  }

  enqueue(events: readonly NewEvent[], at: number, claimFor: string | undefined): EnqueueOutcome[] {
    // Who has been taken for dead may still add to the store: another one claims it.
    const owner = claimFor !== undefined && this.#joined(claimFor) ? claimFor : null;
    return events.map((event) => this.#enqueueOne(event, ms(at), owner));
  }

  #enqueueOne(event: NewEvent, at: number, owner: string | null): EnqueueOutcome {
    const refused = this.#duplicate(event, at);
    if (refused !== null) return refused;
    const lane = this.#lane(event);
    const blocked = event.orderKey !== null && this.#get(ORDER_TAKEN, lane, event.orderKey) !== undefined;
    const dueAt = ms(event.dueAt);
    const claimant = !blocked && dueAt <= at ? owner : null;
    const seq = this.#insert(event, {
      lane,
      state: claimant === null ? STATE.queued : STATE.running,
      ready: claimant === null && !blocked ? 1 : 0,
      owner: claimant,
      at,
    });
    if (seq === null) return { outcome: 'duplicate', id: event.id };
    this.#remember(event);
    if (claimant === null) return { outcome: 'enqueued', id: event.id, claim: null };
    const claim: Claim = { id: event.id, fence: 1, deliveries: 1, attempts: 0, firstAt: at, event };
    return { outcome: 'enqueued', id: event.id, claim };
  }

  #duplicate({ id, namespace, name, trigger, dedup }: NewEvent, at: number): EnqueueOutcome | null {
    if (dedup === null) return null;
    if (this.#get('SELECT 1 FROM events WHERE id = ?', id) !== undefined) return { outcome: 'duplicate', id };
    const sql = 'SELECT id, fingerprint, until FROM dedup WHERE namespace = ? AND name = ? AND trigger = ? AND key = ?';
    const found = this.#get(sql, namespace, name, trigger ?? '', dedup.key);
    if (found === undefined || Number(found.until) <= at) return null;
    return { outcome: found.fingerprint === dedup.fingerprint ? 'duplicate' : 'mismatch', id: String(found.id) };
  }

  #remember({ id, namespace, name, trigger, dedup }: NewEvent): void {
    if (dedup === null) return;
    const sql = `INSERT INTO dedup (namespace, name, trigger, key, fingerprint, id, until) VALUES (?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET fingerprint = excluded.fingerprint, id = excluded.id, until = excluded.until`;
    this.#run(sql, namespace, name, trigger ?? '', dedup.key, dedup.fingerprint, id, ms(dedup.until));
  }

  /** null: an event with its id is there already. */
  #insert(event: NewEvent, as: { lane: number; state: number; ready: 0 | 1; owner: string | null; at: number }): number | null {
    const sql = `INSERT INTO events (id, lane, state, ready, due_at, fence, deliveries, owner, claimed_at, trigger, order_key, dedup, created_at, expires_at)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`;
    const claims = as.owner === null ? 0 : 1;
    const claimedAt = as.owner === null ? null : as.at;
    const { id, trigger, orderKey, dedup } = event;
    const { changes, lastInsertRowid } = this.#connection
      .prepare(sql)
      .run(
        id,
        as.lane,
        as.state,
        as.ready,
        ms(event.dueAt),
        claims,
        claims,
        as.owner,
        claimedAt,
        trigger,
        orderKey,
        json(dedup),
        ms(event.createdAt),
        ms(event.expiresAt),
      );
    if (Number(changes) === 0) return null;
    const seq = Number(lastInsertRowid);
    this.#run('INSERT INTO bodies (seq, payload) VALUES (?, ?)', seq, event.payload);
    this.#count(as.lane, null, as.state);
    return seq;
  }

  claim(owner: string, lanes: readonly { lane: string; limit: number }[], at: number): Claim[] {
    if (!this.#joined(owner))
      throw new FnError('not-leader', `${owner} has not beaten for too long: its events are others' now.`, { retryAfterSeconds: 1 });
    return lanes.flatMap(({ lane, limit }) => this.#claimOf(lane, limit, owner, ms(at)));
  }

  #claimOf(name: string, limit: number, owner: string, at: number): Claim[] {
    const lane = this.#get('SELECT number, namespace, name FROM lanes WHERE lane = ?', name);
    if (lane === undefined) return [];
    const number = Number(lane.number);
    // RETURNING is in no order.
    const sql = `UPDATE events SET state = ${STATE.running}, ready = 0, fence = fence + 1, deliveries = deliveries + 1, owner = ?, claimed_at = ?
      WHERE seq IN (SELECT seq FROM events INDEXED BY events_due WHERE lane = ? AND ready = 1 AND due_at <= ? ORDER BY due_at, seq LIMIT ?)
      RETURNING *, (SELECT payload FROM bodies WHERE bodies.seq = events.seq) AS payload`;
    const rows = this.#all(sql, owner, at, number, at, limit);
    rows.sort((a, b) => Number(a.due_at) - Number(b.due_at) || Number(a.seq) - Number(b.seq));
    if (rows.length > 0) {
      this.#changes.push({ lane: number, counter: 'waiting', by: -rows.length }, { lane: number, counter: 'claimed', by: rows.length });
    }
    return rows.map((row) => {
      const whole = { ...row, lane_name: name, namespace: lane.namespace ?? '', name: lane.name ?? '' };
      return toClaim(whole, toEvent(whole, bytes(row.payload)));
    });
  }

  settle(settlements: readonly Settlement[]): ('settled' | 'fenced')[] {
    return settlements.map((settlement) => {
      const done = this.#settleOne(settlement);
      // What follows from an attempt that is not his any more is the new owner's to say.
      if (done && settlement.following !== undefined) this.enqueue(settlement.following, settlement.at, undefined);
      return done ? 'settled' : 'fenced';
    });
  }

  #settleOne(settlement: Settlement): boolean {
    const sql = `SELECT seq, lane, order_key, first_at, claimed_at FROM events WHERE id = ? AND state = ${STATE.running} AND fence = ?`;
    const row = this.#get(sql, settlement.id, settlement.fence);
    if (row === undefined) return false;
    if (settlement.outcome === 'released') this.#free(row, 1);
    else if (settlement.outcome === 'retry') this.#retry(row, settlement);
    else this.#finish(row, settlement);
    return true;
  }

  /** It waits again, as it was. `takeBack`: 1 where this delivery was none. */
  #free(row: Row, takeBack: 0 | 1): void {
    const state = row.first_at === null ? STATE.queued : STATE.retrying;
    const sql = `UPDATE events SET state = ?, ready = 1, owner = NULL, claimed_at = NULL, deliveries = deliveries - ? WHERE seq = ?`;
    this.#run(sql, state, takeBack, row.seq ?? null);
    this.#count(Number(row.lane), STATE.running, state);
  }

  #retry(row: Row, { dueAt, counted, error, attempt }: Extract<Settlement, { outcome: 'retry' }>): void {
    const sql = `UPDATE events SET state = ${STATE.retrying}, ready = 1, owner = NULL, first_at = coalesce(first_at, claimed_at), claimed_at = NULL,
      due_at = ?, attempts = attempts + ?, deliveries = deliveries - ?, error = ?, request = ?, revision = ? WHERE seq = ?`;
    this.#run(sql, ms(dueAt), counted ? 1 : 0, counted ? 0 : 1, json(error), attempt.request, attempt.revision, row.seq ?? null);
    this.#count(Number(row.lane), STATE.running, STATE.retrying);
  }

  #finish(row: Row, settlement: Extract<Settlement, { outcome: 'succeeded' | 'dead' }>): void {
    const { at, keptUntil, result, resultInfo, attempt } = settlement;
    const seq = row.seq ?? null;
    const dead = settlement.outcome === 'dead' ? settlement : null;
    const state = dead === null ? STATE.succeeded : STATE.failed;
    // The newest error of one that succeeded at last stays readable.
    const sql = `UPDATE events SET state = ?, owner = NULL, claimed_at = NULL, finished_at = ?, kept_until = ?, result_info = ?, request = ?, revision = ?,
      attempts = attempts + ?, error = coalesce(?, error), reason = ? WHERE seq = ?`;
    const counted = dead?.counted === true ? 1 : 0;
    const info = json(resultInfo);
    const { request, revision } = attempt;
    this.#run(sql, state, ms(at), ms(keptUntil), info, request, revision, counted, json(dead?.error), dead?.reason ?? null, seq);
    if (dead === null && result === null) this.#run('DELETE FROM bodies WHERE seq = ?', seq);
    else if (dead === null) this.#run('UPDATE bodies SET payload = NULL, result = ? WHERE seq = ?', result, seq);
    else if (result !== null) this.#run('UPDATE bodies SET result = ? WHERE seq = ?', result, seq);
    this.#count(Number(row.lane), STATE.running, state);
    this.#next(row);
  }

  cancel(id: string, at: number, keptUntil: number): InvocationState | null {
    const row = this.#get('SELECT seq, lane, order_key, state FROM events WHERE id = ?', id);
    if (row === undefined) return null;
    const before = Number(row.state);
    if (before >= ENDED) return stateOf(row);
    const sql = `UPDATE events SET state = ${STATE.cancelled}, ready = 0, owner = NULL, claimed_at = NULL, fence = fence + 1, finished_at = ?, kept_until = ? WHERE seq = ?`;
    this.#run(sql, ms(at), ms(keptUntil), row.seq ?? null);
    this.#run('DELETE FROM bodies WHERE seq = ?', row.seq ?? null);
    this.#count(Number(row.lane), before, STATE.cancelled);
    this.#next(row);
    return 'cancelled';
  }

  /** One with an order key is over: the next one with it may be claimed. */
  #next({ lane, order_key: key }: Row): void {
    if (key === null || key === undefined) return;
    const sql = `UPDATE events SET ready = 1 WHERE state < ${STATE.running} AND ready = 0 AND seq =
      (SELECT seq FROM events INDEXED BY events_order WHERE lane = ? AND order_key = ? AND state < 3 ORDER BY seq LIMIT 1)`;
    this.#run(sql, lane ?? null, key);
  }

  addDead(letter: NewDeadLetter): string {
    const { event, message } = letter;
    const lane = this.#lane(event);
    const same = this.#get(
      `SELECT id FROM events WHERE lane = ? AND coalesce(trigger, '') = ? AND message = ?`,
      lane,
      event.trigger ?? '',
      message,
    );
    if (same !== undefined) return String(same.id);
    const seq = this.#insert(event, { lane, state: STATE.failed, ready: 0, owner: null, at: letter.deadAt });
    if (seq === null) return event.id;
    const sql =
      'UPDATE events SET message = ?, reason = ?, error = ?, attempts = ?, request = ?, finished_at = ?, kept_until = ? WHERE seq = ?';
    const { reason, error, attempts, request, deadAt, keptUntil } = letter;
    this.#run(sql, message, reason, json(error), attempts, request, ms(deadAt), ms(keptUntil), seq);
    return event.id;
  }

  /** False: there is no such dead letter. */
  redrive(id: string, at: number, expiresAt: number): boolean {
    const row = this.#get(`SELECT seq, lane, order_key FROM events WHERE id = ? AND state = ${STATE.failed}`, id);
    if (row === undefined) return false;
    const { seq: old = null, lane = null, order_key: key = null } = row;
    const blocked = key !== null && this.#get(ORDER_TAKEN, lane, key) !== undefined;
    const seq = Number(this.#get('SELECT max(seq) + 1 AS next FROM events')?.next);
    const sql = `UPDATE events SET seq = ?, state = ${STATE.queued}, ready = ?, due_at = ?, expires_at = ?, deliveries = 0, attempts = 0, first_at = NULL,
      finished_at = NULL, kept_until = NULL, request = NULL, revision = NULL, error = NULL, result_info = NULL, reason = NULL WHERE seq = ?`;
    this.#run(sql, seq, blocked ? 0 : 1, ms(at), ms(expiresAt), old);
    this.#run('UPDATE bodies SET seq = ?, result = NULL WHERE seq = ?', seq, old);
    this.#count(Number(lane), STATE.failed, STATE.queued);
    return true;
  }

  /** False: there is no such dead letter. */
  purge(id: string): boolean {
    const row = this.#get(`SELECT seq, lane, state FROM events WHERE id = ? AND state = ${STATE.failed}`, id);
    if (row !== undefined) this.#remove(row);
    return row !== undefined;
  }

  prune(at: number, limit: number): number {
    const rows = this.#all('SELECT seq, lane, state FROM events WHERE kept_until <= ? ORDER BY kept_until LIMIT ?', ms(at), limit);
    for (const row of rows) this.#remove(row);
    const keys = this.#run(
      `DELETE FROM dedup WHERE (namespace, name, trigger, key) IN
        (SELECT namespace, name, trigger, key FROM dedup WHERE until <= ? ORDER BY until LIMIT ?)`,
      ms(at),
      limit,
    );
    // Its counts are those of the last commit: one that changes now is not empty, or goes with the next prune.
    const empty =
      'DELETE FROM lanes WHERE waiting = 0 AND claimed = 0 AND dead = 0 AND NOT EXISTS (SELECT 1 FROM events WHERE lane = number)';
    if (this.#run(empty) > 0) this.#lanes.clear();
    return rows.length + keys;
  }

  /** Some of what a function has: at most `limit`. Fewer: nothing is left. */
  forget(namespace: string, name: string, limit: number): number {
    const lanes = this.#all('SELECT number FROM lanes WHERE namespace = ? AND name = ?', namespace, name);
    const sql = 'SELECT seq, lane, state, order_key FROM events WHERE lane = ? AND state = ? ORDER BY seq DESC LIMIT ?';
    let left = limit;
    for (const { number = null } of lanes) {
      for (const state of Object.values(STATE)) {
        const rows = left === 0 ? [] : this.#all(sql, number, state, left);
        left -= rows.length;
        for (const row of rows) {
          this.#remove(row);
          // Where this is all that is done of it, what is left must not wait for what is gone.
          if (state < ENDED) this.#next(row);
        }
      }
    }
    // An event of the next function of this name is no duplicate of one that is gone.
    if (left > 0) this.#run('DELETE FROM dedup WHERE namespace = ? AND name = ?', namespace, name);
    return limit - left;
  }

  #remove({ seq = null, lane, state }: Row): void {
    this.#run('DELETE FROM events WHERE seq = ?', seq);
    this.#run('DELETE FROM bodies WHERE seq = ?', seq);
    this.#count(Number(lane), Number(state), null);
  }

  #joined(owner: string): boolean {
    return this.#get('SELECT 1 FROM owners WHERE owner = ?', owner) !== undefined;
  }

  #lane({ lane, namespace, name }: NewEvent): number {
    const known = this.#lanes.get(lane);
    if (known !== undefined) return known;
    let row = this.#get('SELECT number FROM lanes WHERE lane = ?', lane);
    row ??= this.#get('INSERT INTO lanes (lane, namespace, name) VALUES (?, ?, ?) RETURNING number', lane, namespace, name);
    const number = Number(row?.number);
    this.#lanes.set(lane, number);
    return number;
  }

  #count(lane: number, from: number | null, to: number | null): void {
    const less = from === null ? null : counterOf(from);
    const more = to === null ? null : counterOf(to);
    if (less === more) return;
    if (less !== null) this.#changes.push({ lane, counter: less, by: -1 });
    if (more !== null) this.#changes.push({ lane, counter: more, by: 1 });
  }

  #get(sql: string, ...parameters: (SQLInputValue | SQLOutputValue)[]): Row | undefined {
    return this.#connection.prepare(sql).get(...parameters);
  }

  #all(sql: string, ...parameters: SQLInputValue[]): Row[] {
    return this.#connection.prepare(sql).all(...parameters);
  }

  /** How many rows it changed. */
  #run(sql: string, ...parameters: SQLInputValue[]): number {
    return Number(this.#connection.prepare(sql).run(...parameters).changes);
  }
}
