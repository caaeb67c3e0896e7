/** Accounting over a real store, a driver whose counters the test moves, and virtual time. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CallCounts } from '#contract/stats.ts';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import type { Usage } from '../driver/types.ts';
import { openSqliteStore } from '../store/sqlite/store.ts';
import type { Store } from '../store/types.ts';
import { Accounting, KEEP_DELETED_MS, SAMPLE_EVERY_MS } from './accounting.ts';
import type { MeteredInstance } from './types.ts';

const GIB = 1_024 ** 3;
const GATEWAY = 'g/1';

/** A controller, one after another; what they share is the machine: instances, their counters, the store's file. */
class Controllers {
  readonly clock = new VirtualClock();
  readonly used = new Map<string, Usage>();
  readonly instances = new Map<string, MeteredInstance>();
  readonly functions = new Map<string, number[]>([['default/hello', [1, 2]]]);
  readonly acknowledged: [string, number][] = [];
  readonly #folder: string;
  #store: Store | null = null;
  reads = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async next(): Promise<Accounting> {
    await this.#store?.close();
    this.#store = openSqliteStore({ path: join(this.#folder, 'fn.db'), log: silentLog });
    const usage = (id: string) => {
      this.reads += 1;
      return Promise.resolve(this.used.get(id) ?? null);
    };
    const accounting = new Accounting({
      store: this.#store,
      driver: { usageSource: 'cgroup', usage },
      clock: this.clock,
      log: silentLog,
    });
    await accounting.start({
      instances: () => this.instances.values(),
      revisions: (namespace, name) => this.functions.get(`${namespace}/${name}`) ?? null,
      acknowledge: (gateway, seq) => this.acknowledged.push([gateway, seq]),
    });
    return accounting;
  }

  close(): Promise<void> | undefined {
    return this.#store?.close();
  }

  /** An instance of 512 MiB. */
  put(id: string, fields: Partial<MeteredInstance> = {}): void {
    this.instances.set(id, { id, revision: null, memoryMib: 512, active: true, frozen: false, leaving: false, ...fields });
  }

  uses(id: string, cpuUs: number, memoryBytes = GIB / 4, counter = 'c'): void {
    this.used.set(id, { counter, cpuUs, memoryBytes, peakBytes: memoryBytes * 2 });
  }
}

const counts = (revision: string, fields: Partial<CallCounts> = {}): CallCounts => ({
  revision,
  invocations: 10,
  errors: 1,
  rejected: 2,
  pooled: 1,
  full: 1,
  durationMs: 100,
  durations: [[6, 10]],
  ...fields,
});

describe('accounting', () => {
  let folder: string;
  let world: Controllers;
  let accounting: Accounting;

  /** Virtual time passes, and instances are read. */
  const pass = async (ms = SAMPLE_EVERY_MS) => {
    world.clock.advance(ms);
    await accounting.refresh();
  };
  const hello = () => accounting.function('default', 'hello')!;
  const pool = () => accounting.list().pool!;
  const claim = async (id: string, revision: string) => {
    accounting.claimed(id, revision, 512);
    world.put(id, { revision });
    // Its reading is under way, and no time passes meanwhile.
    await setImmediate();
  };

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fn-accounting-'));
    world = new Controllers(folder);
    accounting = await world.next();
  });
  afterEach(async () => {
    await accounting.close();
    await world.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('what an instance used before it was claimed is the pool’s, what it used after its function’s', async () => {
    world.put('i-1');
    world.uses('i-1', 200_000);
    await pass(0);
    world.clock.advance(SAMPLE_EVERY_MS);
    world.uses('i-1', 250_000);
    await claim('i-1', 'default/hello@2');
    await pass(0);
    world.uses('i-1', 1_250_000);
    await pass();
    expect(pool()).toMatchObject({ cpuSeconds: 0.25, memoryReservedGibSeconds: 5 });
    expect(hello()).toMatchObject({ cpuSeconds: 1, memoryReservedGibSeconds: 5, memoryUsedGibSeconds: 2.5, memoryPeakBytes: GIB / 2 });
    expect(hello().revisions).toMatchObject([{ number: 2, cpuSeconds: 1 }]);
  });

  it('the last reading is taken at the end, and after it there is no more', async () => {
    world.put('i-1');
    world.uses('i-1', 0);
    await claim('i-1', 'default/hello@1');
    await pass();
    world.uses('i-1', 7_000_000);
    await accounting.ended('i-1');
    world.instances.delete('i-1');
    await pass();
    await pass();
    expect(hello()).toMatchObject({ cpuSeconds: 7, memoryReservedGibSeconds: 5 });
  });

  it('of one that crashed the last sample counts: its counter is gone with it', async () => {
    world.put('i-1');
    await claim('i-1', 'default/hello@1');
    world.uses('i-1', 3_000_000);
    await pass();
    world.used.delete('i-1');
    world.clock.advance(2_000);
    await accounting.ended('i-1');
    expect(hello()).toMatchObject({ cpuSeconds: 3, memoryReservedGibSeconds: 6 });
  });

  it('memory in use is the area between samples; what stands still is not read, and goes on', async () => {
    world.put('i-1');
    world.uses('i-1', 0, 0);
    await claim('i-1', 'default/hello@1');
    await pass(2_000);
    world.uses('i-1', 0, GIB);
    await pass(4_000);
    expect(hello().memoryUsedGibSeconds).toBeCloseTo(2, 5);
    const { reads } = world;
    // Once more, for what it did until it was frozen.
    world.uses('i-1', 500_000, GIB);
    world.put('i-1', { revision: 'default/hello@1', active: false, frozen: true });
    await pass(5_000);
    await pass(5_000);
    expect(world.reads).toBe(reads + 1);
    expect(hello().cpuSeconds).toBe(0.5);
    expect(hello().memoryUsedGibSeconds).toBeCloseTo(12, 5);
  });

  it('a counter is never counted twice or backwards: not after a restart, not after a crash, not where it begins anew', async () => {
    world.put('i-1');
    world.uses('i-1', 100_000);
    await claim('i-1', 'default/hello@1');
    await pass(0);
    world.uses('i-1', 1_100_000);
    await pass();
    // A crash: nothing is written at its end. The next one goes on from the same counter, and from the same time.
    world.uses('i-1', 2_100_000);
    world.clock.advance(5_000);
    accounting = await world.next();
    await pass();
    expect(hello()).toMatchObject({ cpuSeconds: 2, memoryReservedGibSeconds: 12.5 });
    expect(pool().cpuSeconds).toBe(0.1);
    world.uses('i-1', 2_000_000);
    await pass();
    expect(hello().cpuSeconds).toBe(2);
    world.uses('i-1', 2_200_000);
    await pass();
    expect(hello().cpuSeconds).toBe(2.1);
    world.uses('i-1', 400_000, 0, 'another');
    await pass();
    expect(hello().cpuSeconds).toBe(2.5);
  });

  it('an instance that ended while no controller was there keeps what was counted of it', async () => {
    world.put('i-1');
    world.uses('i-1', 1_000_000);
    await claim('i-1', 'default/hello@1');
    await pass(0);
    world.uses('i-1', 3_000_000);
    await pass();
    world.instances.clear();
    world.clock.advance(60_000);
    accounting = await world.next();
    expect(hello()).toMatchObject({ cpuSeconds: 2, memoryReservedGibSeconds: 5 });
  });

  it('a batch of a gateway counts once, however often it comes, also over a crash; it is acknowledged once it is kept', async () => {
    const batch = { seq: 1, counts: [counts('default/hello@1'), counts('default/hello@2')] };
    accounting.counted(GATEWAY, batch);
    accounting.counted(GATEWAY, batch);
    expect(hello()).toMatchObject({
      invocations: 20,
      errors: 2,
      rejected: 4,
      coldStarts: { pooled: 2, full: 2 },
      duration: { sumSeconds: 0.2 },
    });
    expect(world.acknowledged).toEqual([]);
    await pass();
    expect(world.acknowledged).toEqual([[GATEWAY, 1]]);
    // Killed before the acknowledgement was heard: the gateway sends it to the next one.
    accounting = await world.next();
    accounting.counted(GATEWAY, batch);
    accounting.counted(GATEWAY, { seq: 2, counts: [counts('default/hello@2', { invocations: 1, errors: 0 })] });
    accounting.counted('g/2', { seq: 1, counts: [counts('default/hello@2', { invocations: 5, errors: 0 })] });
    await pass();
    expect(hello()).toMatchObject({ invocations: 26, errors: 2 });
    expect(hello().revisions).toMatchObject([
      { number: 2, invocations: 16 },
      { number: 1, invocations: 10 },
    ]);
    expect(world.acknowledged.slice(1)).toEqual([
      [GATEWAY, 2],
      ['g/2', 1],
    ]);
  });

  it('a gateway cannot make up functions', async () => {
    accounting.counted(GATEWAY, { seq: 1, counts: [counts('default/invented@1')] });
    expect(accounting.function('default', 'invented')).toBeNull();
    expect(accounting.list().functions).toEqual([]);
  });

  it('percentiles are of the class that holds them', () => {
    const durations: [number, number][] = [
      [2, 50],
      [10, 45],
      [20, 5],
    ];
    accounting.counted(GATEWAY, { seq: 1, counts: [counts('default/hello@1', { invocations: 100, durations })] });
    const { p50Ms, p95Ms, p99Ms } = hello().duration;
    expect(p50Ms).toBeCloseTo(1, 5);
    expect(p95Ms).toBeCloseTo(16, 5);
    expect(p99Ms).toBeGreaterThan(362);
    expect(p99Ms).toBeLessThan(512);
  });

  it('a revision that is not kept any more is part of the total alone; a deleted function is told for a week', async () => {
    accounting.counted(GATEWAY, { seq: 1, counts: [counts('default/hello@1'), counts('default/hello@2')] });
    accounting.started('default/hello@2');
    world.functions.set('default/hello', [2]);
    await pass();
    expect(hello()).toMatchObject({ invocations: 20, instancesStarted: 1, deletedAt: null });
    expect(hello().revisions.map(({ number }) => number)).toEqual([2]);
    world.functions.delete('default/hello');
    await pass();
    expect(hello()).toMatchObject({ invocations: 20, deletedAt: world.clock.wall(), revisions: [] });
    // One of the same name goes on from there: a counter does not fall.
    world.functions.set('default/hello', [3]);
    accounting.counted(GATEWAY, { seq: 2, counts: [counts('default/hello@3')] });
    await pass();
    expect(hello()).toMatchObject({ invocations: 30, deletedAt: null });
    world.functions.delete('default/hello');
    await pass();
    await pass(KEEP_DELETED_MS);
    expect(accounting.function('default', 'hello')).toBeNull();
    accounting = await world.next();
    expect(accounting.list().functions).toEqual([]);
  });

  it('a namespace is told its own only, and what one used that is about to end stays whose it was', async () => {
    world.functions.set('shop/cart', [1]);
    world.put('i-1', { revision: 'default/hello@1' });
    world.put('i-2', { revision: 'shop/cart@1' });
    world.uses('i-1', 1_000_000);
    world.uses('i-2', 2_000_000);
    await pass();
    expect(accounting.list(['shop']).functions).toMatchObject([{ namespace: 'shop', name: 'cart', cpuSeconds: 2 }]);
    world.put('i-2', { revision: null, leaving: true });
    world.uses('i-2', 5_000_000);
    await pass();
    world.uses('i-2', 6_000_000);
    await accounting.ended('i-2');
    expect(accounting.list(['shop']).functions).toMatchObject([{ cpuSeconds: 6 }]);
    // What is not written yet could be less after a crash, and Prometheus would count all of it once more.
    const scraped = () => accounting.metrics().map(({ namespace, stats }) => [namespace, stats.cpuSeconds]);
    expect(scraped()).toEqual([
      ['default', 1],
      ['shop', 5],
    ]);
    await accounting.keep();
    expect(scraped().at(-1)).toEqual(['shop', 6]);
    accounting = await world.next();
    expect(accounting.metrics().map(({ namespace, stats }) => [namespace, stats.cpuSeconds])).toEqual([
      ['default', 1],
      ['shop', 6],
    ]);
  });

  it('a row that cannot be read is begun anew, and hides no other', async () => {
    accounting.counted(GATEWAY, { seq: 1, counts: [counts('default/hello@1')] });
    await pass();
    await accounting.close();
    const store = openSqliteStore({ path: join(folder, 'fn.db'), log: silentLog });
    await store.saveUsage({ set: new Map([['default/broken', '{']]), remove: [] });
    await store.close();
    accounting = await world.next();
    expect(accounting.list().functions).toMatchObject([{ name: 'hello', invocations: 10 }]);
  });
});
