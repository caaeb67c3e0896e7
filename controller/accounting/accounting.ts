/**
 * Accounting: who has used what. Reads the counters of instances every few seconds, at their claim and at their end; adds up what
 * gateways counted; keeps both in the store. Nothing of it is on the way of a request.
 */
import { setImmediate } from 'node:timers/promises';
import { type CountsBatch, type FunctionStats, type StatsList, type UsageStats } from '#contract/stats.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { type Clock, sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { Driver, Usage } from '../driver/types.ts';
import type { UsageStore } from '../store/types.ts';
import { Account, type Meter, type Moment } from './account.ts';
import { beyond, type Deleted } from './deleted.ts';
import { resourceStats, usageStats } from './totals.ts';
import type { AccountingPort, AccountingSources, MeteredInstance } from './types.ts';
import { WrittenTotals } from './written.ts';

/** How often instances that work are read, and what has changed is written, ms. */
export const SAMPLE_EVERY_MS = 10_000;
/** How often those are read that nobody has asked anything for a while, ms: they may have timers of their own. */
export const IDLE_EVERY_MS = 60_000;
/** Whoever asks for stats has instances read anew, but not more often than this, ms. */
const REFRESH_EVERY_MS = 2_000;
/** Instances read at a time. */
const READ_AT_A_TIME = 4;
/** How long the last reading of an instance may hold up its end, ms. */
const LAST_READING_MS = 500;
/** Accounts written in one transaction: some ms of the event loop. */
const WRITE_AT_A_TIME = 100;
/** How long totals of a function are kept that was deleted, ms; and of how many at most. */
export const KEEP_DELETED_MS = 7 * 86_400_000;
const MAX_DELETED = 10_000;

/** Key of the account of what is no function's yet. */
const POOL = '';

export interface AccountingOptions {
  store: UsageStore;
  driver: Pick<Driver, 'usage' | 'usageSource'>;
  clock: Clock;
  log: Log;
}

interface Owner {
  key: string;
  number: number | null;
}

const ownerOf = (revision: string | null): Owner => {
  if (revision === null) return { key: POOL, number: null };
  const { namespace, name, number } = parseRevisionKey(revision);
  return { key: `${namespace}/${name}`, number };
};

export class Accounting implements AccountingPort {
  readonly #options: AccountingOptions;
  readonly #accounts = new Map<string, Account>();
  /** Key of the account that an instance's meter is in. */
  readonly #keys = new Map<string, string>();
  readonly #dirty = new Set<string>();
  readonly #written = new WrittenTotals();
  readonly #readAt = new Map<string, number>();
  /** Those that were read since they were frozen. */
  readonly #readFrozen = new Set<string>();
  readonly #claims = new Map<string, Promise<void>>();
  /** Batches that were added up and not written yet, by gateway. */
  #acks = new Map<string, number>();
  #sources: AccountingSources | null = null;
  #cancel: () => void = () => {};
  #round: Promise<void> | null = null;
  #writing: Promise<void> = Promise.resolve();
  #refreshedAt = -Infinity;
  #closed = false;

  constructor(options: AccountingOptions) {
    this.#options = options;
  }

  get #moment(): Moment {
    const { clock } = this.#options;
    return { now: clock.now(), wall: clock.wall() };
  }

  async start(sources: AccountingSources): Promise<void> {
    const { store, log } = this.#options;
    this.#sources = sources;
    const moment = this.#moment;
    // The pool first: an instance that is in two accounts, as after a crash between two writes, is its function's.
    const rows = [...(await store.loadUsage())].toSorted(([a], [b]) => (a < b ? -1 : 1));
    for (const [key, text] of rows) {
      try {
        this.#accounts.set(key, Account.parse(text, moment));
        this.#written.set(key, structuredClone(this.#account(key).total));
      } catch (error) {
        log.error({ function: key, error: String(error) }, 'what a function has used cannot be read: it is counted anew');
        continue;
      }
      for (const id of this.#account(key).meters.keys()) {
        if (this.#keys.has(id)) this.#forget(id);
        this.#keys.set(id, key);
      }
    }
    const present = new Set<string>();
    for (const instance of sources.instances()) {
      present.add(instance.id);
      this.#meet(instance);
    }
    // They ended while nobody looked: what they used since the last reading is not known.
    for (const id of [...this.#keys.keys()]) if (!present.has(id)) this.#forget(id);
    this.#later();
  }

  #account(key: string): Account {
    let account = this.#accounts.get(key);
    if (account === undefined) this.#accounts.set(key, (account = new Account(this.#options.clock.wall())));
    return account;
  }

  /** It has a meter in the account of whose it is. One that is another's now goes on from where it was counted. */
  #meet({ id, revision, memoryMib, leaving }: MeteredInstance): void {
    if (leaving || this.#claims.has(id)) return;
    const owner = ownerOf(revision);
    const now = this.#options.clock.now();
    const key = this.#keys.get(id);
    const known = key === undefined ? undefined : this.#account(key).meters.get(id);
    if (key === owner.key && known?.number === owner.number) {
      if (known.memoryMib !== memoryMib) this.#account(key).pass(id, now, memoryMib);
      return;
    }
    this.#own(id, owner, memoryMib);
  }

  #own(id: string, owner: Owner, memoryMib: number): void {
    const now = this.#options.clock.now();
    const key = this.#keys.get(id);
    let before: Meter | undefined;
    if (key !== undefined) {
      this.#account(key).pass(id, now);
      before = this.#account(key).meters.get(id);
      this.#forget(id);
    }
    const { counter = '', cpuUs = 0, usedBytes = 0 } = before ?? {};
    this.#account(owner.key).meters.set(id, { number: owner.number, counter, cpuUs, usedBytes, memoryMib, at: now });
    this.#keys.set(id, owner.key);
    this.#dirty.add(owner.key);
  }

  #forget(id: string): void {
    const key = this.#keys.get(id);
    if (key === undefined) return;
    this.#accounts.get(key)?.meters.delete(id);
    this.#keys.delete(id);
    this.#readAt.delete(id);
    this.#readFrozen.delete(id);
    this.#dirty.add(key);
  }

  claimed(id: string, revision: string, memoryMib: number): void {
    if (!this.#keys.has(id)) this.#own(id, ownerOf(null), memoryMib);
    const claim = this.#read(id).then(() => {
      this.#claims.delete(id);
      if (this.#keys.has(id)) this.#own(id, ownerOf(revision), memoryMib);
    });
    this.#claims.set(id, claim);
  }

  started(revision: string): void {
    const { key, number } = ownerOf(revision);
    if (number === null) return;
    this.#account(key).started(number);
    this.#dirty.add(key);
  }

  async ended(id: string): Promise<void> {
    await this.#claims.get(id);
    await this.#read(id);
    this.#forget(id);
  }

  /** Adds what an instance has used to whose it is. Never throws: what cannot be read (false) is read the next time, or never. */
  async #read(id: string): Promise<boolean> {
    const { driver, clock, log } = this.#options;
    const late = new AbortController();
    let usage: Usage | null = null;
    try {
      usage = await Promise.race([driver.usage(id), sleep(LAST_READING_MS, late.signal).then(() => null)]);
    } catch (error) {
      log.warn({ instance: id, error: String(error) }, 'what an instance has used cannot be read');
    } finally {
      late.abort(new Error('read'));
    }
    const key = this.#keys.get(id);
    if (key === undefined) return false;
    if (usage === null) this.#account(key).pass(id, clock.now());
    else this.#account(key).read(id, usage, clock.now());
    this.#readAt.set(id, clock.now());
    this.#dirty.add(key);
    return usage !== null;
  }

  counted(gateway: string, { seq, counts }: CountsBatch): void {
    const byFunction = Map.groupBy(
      counts.map((one) => ({ ...ownerOf(one.revision), counts: one })),
      ({ key }) => key,
    );
    for (const [key, those] of byFunction) {
      // A gateway faces the network: of what there is no function there is no account.
      if (!this.#accounts.has(key) && this.#kept(key) === null) continue;
      const each = those.flatMap(({ number, counts: one }) => (number === null ? [] : [{ number, counts: one }]));
      if (this.#account(key).counted(gateway, seq, each)) this.#dirty.add(key);
    }
    this.#acks.set(gateway, seq);
  }

  #kept(key: string): readonly number[] | null {
    const slash = key.indexOf('/');
    return this.#sources?.revisions(key.slice(0, slash), key.slice(slash + 1)) ?? null;
  }

  #later(): void {
    this.#cancel = this.#options.clock.after(SAMPLE_EVERY_MS, () => {
      void this.#sample(false).finally(() => {
        if (!this.#closed) this.#later();
      });
    });
  }

  async refresh(): Promise<void> {
    if (this.#closed || this.#options.clock.now() - this.#refreshedAt < REFRESH_EVERY_MS) {
      await this.#round;
      return;
    }
    await this.#sample(true);
  }

  /** One round at a time; whoever asks meanwhile waits for it. */
  #sample(activeOnly: boolean): Promise<void> {
    this.#round ??= this.#readAll(activeOnly).finally(() => (this.#round = null));
    return this.#round;
  }

  async #readAll(activeOnly: boolean): Promise<void> {
    const { clock } = this.#options;
    this.#refreshedAt = clock.now();
    const due: MeteredInstance[] = [];
    for (const instance of this.#sources?.instances() ?? []) {
      this.#meet(instance);
      if (!instance.frozen) this.#readFrozen.delete(instance.id);
      if (this.#isDue(instance, activeOnly)) due.push(instance);
    }
    const worker = async () => {
      for (let next = due.pop(); next !== undefined && !this.#closed; next = due.pop()) {
        // What is read after a claim belongs to who claimed it.
        await this.#claims.get(next.id);
        if (this.#keys.has(next.id) && (await this.#read(next.id)) && next.frozen) this.#readFrozen.add(next.id);
        // Requests first: what is read here is in no hurry.
        await setImmediate();
      }
    };
    await Promise.all(Array.from({ length: READ_AT_A_TIME }, worker));
    this.#tidy();
    await this.#write();
  }

  #isDue({ id, active, frozen, leaving }: MeteredInstance, activeOnly: boolean): boolean {
    // What it did until it was frozen is read once: nothing of it changes then.
    if (frozen) return !this.#readFrozen.has(id);
    if (active || activeOnly || leaving) return active;
    return this.#options.clock.now() - (this.#readAt.get(id) ?? -Infinity) >= IDLE_EVERY_MS;
  }

  /** Revisions that are not kept any more, and functions that were deleted long ago. */
  #tidy(): void {
    const wall = this.#options.clock.wall();
    const deleted: Deleted[] = [];
    for (const [key, account] of this.#accounts) {
      if (key === POOL) continue;
      const kept = this.#kept(key);
      const deletedAt = kept === null ? (account.deletedAt ?? wall) : null;
      if (account.prune(new Set(kept ?? [])) || deletedAt !== account.deletedAt) this.#dirty.add(key);
      account.deletedAt = deletedAt;
      if (deletedAt !== null && account.meters.size === 0) deleted.push({ key, at: deletedAt });
    }
    const surplus = new Set(beyond(deleted, MAX_DELETED));
    for (const { key, at } of deleted) {
      if (!surplus.has(key) && wall - at < KEEP_DELETED_MS) continue;
      this.#accounts.delete(key);
      this.#written.forgetSeries(key);
      this.#dirty.add(key);
    }
  }

  async keep(): Promise<void> {
    if (!this.#closed && (this.#dirty.size > 0 || this.#acks.size > 0)) await this.#write();
  }

  /** Writes what has changed, a few accounts at a time, and acknowledges. What cannot be written is written the next time. */
  #write(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#writeAll());
    return this.#writing;
  }

  async #writeAll(): Promise<void> {
    const { store, log } = this.#options;
    const acks = this.#acks;
    this.#acks = new Map();
    const keys = [...this.#dirty];
    this.#dirty.clear();
    while (keys.length > 0) {
      const batch = keys.splice(0, WRITE_AT_A_TIME);
      const set = new Map(batch.flatMap((key) => this.#text(key)));
      const totals = batch.map((key) => [key, structuredClone(this.#accounts.get(key)?.total)] as const);
      try {
        await store.saveUsage({ set, remove: batch.filter((key) => !set.has(key)) });
        for (const [key, total] of totals) this.#written.set(key, total);
      } catch (error) {
        for (const key of [...batch, ...keys]) this.#dirty.add(key);
        for (const [gateway, seq] of acks) if (!this.#acks.has(gateway)) this.#acks.set(gateway, seq);
        log.warn({ error: String(error), accounts: this.#dirty.size }, 'what functions have used could not be written; it is tried again');
        return;
      }
      await setImmediate();
    }
    for (const [gateway, seq] of acks) this.#sources?.acknowledge(gateway, seq);
  }

  #text(key: string): [string, string][] {
    const account = this.#accounts.get(key);
    return account === undefined ? [] : [[key, account.text(this.#moment)]];
  }

  function(namespace: string, name: string): FunctionStats | null {
    const key = `${namespace}/${name}`;
    return this.#accounts.has(key) || this.#kept(key) !== null ? this.#view(key) : null;
  }

  #view(key: string): FunctionStats {
    const account = this.#accounts.get(key) ?? new Account(this.#options.clock.wall());
    const slash = key.indexOf('/');
    this.#passAll(account);
    return {
      namespace: key.slice(0, slash),
      name: key.slice(slash + 1),
      since: account.since,
      deletedAt: this.#kept(key) === null ? (account.deletedAt ?? this.#options.clock.wall()) : null,
      ...usageStats(account.total),
      revisions: [...account.revisions].toSorted(([a], [b]) => b - a).map(([number, totals]) => ({ number, ...usageStats(totals) })),
    };
  }

  /** What is shown is as of now, whenever the instances were read. */
  #passAll(account: Account): void {
    const now = this.#options.clock.now();
    for (const id of account.meters.keys()) account.pass(id, now);
  }

  list(namespaces?: readonly string[]): StatsList {
    const among = namespaces === undefined ? null : new Set(namespaces);
    const wanted = [...this.#accounts.keys()].filter((key) => key !== POOL && (among?.has(key.slice(0, key.indexOf('/'))) ?? true));
    const pool = this.#account(POOL);
    this.#passAll(pool);
    return {
      source: this.#options.driver.usageSource,
      functions: wanted
        .map((key) => this.#view(key))
        .toSorted((a, b) => a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name)),
      pool: resourceStats(pool.total),
    };
  }

  metrics(): readonly { namespace: string; function: string; stats: UsageStats }[] {
    return this.#written.metrics(POOL);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancel();
    await this.#round;
    await Promise.all(this.#claims.values());
    await this.#write();
  }
}
