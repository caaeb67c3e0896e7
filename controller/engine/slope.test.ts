/**
 * More cold starts than a machine can make, in virtual time: twenty functions a second for half a minute, on two cores that
 * everything which is made or ended shares. First come, first served; no refill takes what somebody waits for; the waiting
 * grows by as much every second; and when it is over, all is as before.
 */
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { newLeaseId } from '#kit/ids.ts';
import { silentLog } from '#kit/log.ts';
import { addInstance, testRevision, testSettings } from '../core/testing.ts';
import { revisionOf, World, type Instance, type RevisionState } from '../core/world.ts';
import { Planner } from './planner.ts';

const STEP_MS = 5;
const CORES = 2;
/** CPU that things take, ms: measured with Docker 20.10 and runc. */
const CREATE_MS = 280;
const SPECIALISE_MS = 8;
const REMOVE_MS = 60;
const SERVICE_MS = 10;
/** As the gateway has them: how long a request waits at most, and how long an unused lease is kept. */
const QUEUE_MS = 30_000;
const UNUSED_MS = 1_000;
const GATEWAY = 'g/1';

interface Waiter {
  revision: RevisionState;
  arrivedAt: number;
  /** null: it gave up. */
  grantedAt: number | null;
}

/** Work that shares the cores: each piece has one at most. */
class Cpu {
  readonly #work: { leftMs: number; done: () => void }[] = [];

  add(leftMs: number, done: () => void): void {
    this.#work.push({ leftMs, done });
  }

  pass(ms: number): void {
    const each = ms * Math.min(1, CORES / Math.max(1, this.#work.length));
    for (const one of this.#work) one.leftMs -= each;
    for (let index = this.#work.length - 1; index >= 0; index -= 1) {
      const one = this.#work[index]!;
      if (one.leftMs > 0) continue;
      this.#work.splice(index, 1);
      one.done();
    }
  }
}

class Host {
  readonly clock = new VirtualClock();
  readonly world = new World();
  readonly cpu = new Cpu();
  readonly planner: Planner;
  readonly waiting = new Map<string, Waiter>();
  readonly over: Waiter[] = [];
  /** Creates that were begun for the pool although somebody waited for more than were coming. */
  greedy = 0;
  errors: unknown[] = [];

  constructor(memoryBudgetMib: number) {
    const { world, clock, cpu } = this;
    const settings = testSettings({ memoryBudgetMib, cpuBudget: 64, poolSize: 3, maxCreates: CORES });
    this.planner = new Planner(
      { world, clock, settings, log: { ...silentLog, error: (fields) => void this.errors.push(fields) }, leads: () => true },
      {
        forms: new Map(),
        create: (pool) => {
          const instance = addInstance(world, { kind: 'creating' }, { ...pool, cpu: 0 });
          const states = [...world.instances.values()].map(({ state }) => state.kind);
          const unserved = this.waiting.size - states.filter((kind) => kind === 'specialising').length;
          if (unserved > 0 && states.filter((kind) => kind === 'creating').length > unserved) this.greedy += 1;
          cpu.add(CREATE_MS, () => world.transition(instance, { kind: 'generic', since: clock.now() }));
        },
        claim: (instance, revision) => {
          world.transition(instance, { kind: 'specialising', revision: revision.key, since: clock.now() });
          instance.cpu = 1;
          this.planner.claimed();
          cpu.add(SPECIALISE_MS, () => world.transition(instance, { kind: 'ready', revision: revision.key, idleSince: clock.now() }));
        },
        thaw: (instance) => {
          if (instance.state.kind !== 'frozen') return;
          const { revision, idleSince } = instance.state;
          world.transition(instance, { kind: 'thawing', revision, idleSince });
          world.transition(instance, { kind: 'ready', revision, idleSince: clock.now() });
        },
        settle: (instance, goal) => {
          if (goal === 'stop') return this.#remove(instance);
          if (instance.state.kind !== 'ready' || instance.state.idleSince === null) return;
          const { revision, idleSince } = instance.state;
          world.transition(instance, { kind: 'settling', revision, idleSince, goal });
          world.transition(instance, { kind: 'frozen', revision, idleSince });
        },
        kill: (instance) => this.#remove(instance),
      },
      {
        grant: (instance, gateway, slots) => this.#grant(instance, gateway, slots),
        revoke: () => {},
      },
      () => {},
    );
    this.planner.start();
  }

  #remove(instance: Instance): void {
    this.world.transition(instance, { kind: 'draining', revision: revisionOf(instance), since: this.clock.now() });
    this.cpu.add(REMOVE_MS, () => this.world.removeInstance(instance.id));
  }

  want(revision: RevisionState, waiting: number, inFlight: number, oldestDeadline: number | null): void {
    this.world.setDemand(revision, GATEWAY, { waiting, inFlight, serviceMs: SERVICE_MS, oldestDeadline }, this.clock.now());
  }

  arrive(revision: RevisionState): void {
    this.world.revisions.set(revision.key, revision);
    this.waiting.set(revision.key, { revision, arrivedAt: this.clock.now(), grantedAt: null });
    this.want(revision, 1, 0, this.clock.wall() + QUEUE_MS);
  }

  #grant(instance: Instance, gateway: string, slots: number): void {
    const { world, clock } = this;
    const lease = world.grant(instance, newLeaseId(), gateway, slots);
    const key = revisionOf(instance)!;
    const waiter = this.waiting.get(key)!;
    this.waiting.delete(key);
    this.over.push({ ...waiter, grantedAt: clock.now() });
    this.want(waiter.revision, 0, 1, null);
    clock.after(SERVICE_MS, () => this.want(waiter.revision, 0, 0, null));
    clock.after(SERVICE_MS + UNUSED_MS, () => world.release(lease.id, clock.now()));
  }

  async step(): Promise<void> {
    const now = this.clock.now();
    for (const [key, waiter] of this.waiting) {
      if (now - waiter.arrivedAt < QUEUE_MS) continue;
      this.waiting.delete(key);
      this.over.push(waiter);
      this.want(waiter.revision, 0, 0, null);
    }
    this.cpu.pass(STEP_MS);
    this.clock.advance(STEP_MS);
    this.planner.touched();
    await setImmediate();
  }
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

async function run(keepAliveSeconds: number, memoryBudgetMib: number) {
  const host = new Host(memoryBudgetMib);
  // The pool is full when it begins.
  while ((host.world.generic.values().next().value?.size ?? 0) < 3) await host.step();
  const begun = host.clock.now();
  for (let index = 0; index < 600; index += 1) {
    while (host.clock.now() < begun + index * 50) await host.step();
    host.arrive(testRevision(`default/f${index}@1`, { keepAliveSeconds, memoryMib: 128 }, 50));
  }
  while (host.waiting.size > 0) await host.step();
  const answered = host.over.flatMap(({ arrivedAt, grantedAt }) =>
    grantedAt === null ? [] : { at: arrivedAt - begun, waitedMs: grantedAt - arrivedAt },
  );
  return { host, begun, answered };
}

describe.each([
  ['their instances are stopped at once', 0, 128 * 64],
  ['their instances are kept, and the memory is used up', 300, 128 * 32],
])('twenty cold functions a second on a machine that makes seven: %s', (_what, keepAliveSeconds, memoryBudgetMib) => {
  it('are served in the order in which they came, as fast as the machine can, and the waiting grows evenly', async () => {
    const { host, answered } = await run(keepAliveSeconds, memoryBudgetMib);
    expect([...new Set(host.errors.map((error) => JSON.stringify(error)))]).toEqual([]);
    expect(host.over).toHaveLength(600);
    // Nobody who came later was served earlier, but for those whose start was under way at the same time.
    const overtakes = answered.map(({ at }, index) => Math.max(0, ...answered.slice(0, index).map((other) => other.at)) - at);
    expect(Math.max(...overtakes)).toBeLessThanOrEqual(CORES * 50);
    // Nothing but removals beside the starts takes the cores: those that were made meanwhile went to those who waited.
    expect(host.greedy).toBe(0);
    const seconds = Math.max(...host.over.map(({ arrivedAt, grantedAt }) => grantedAt ?? arrivedAt + QUEUE_MS)) / 1_000;
    const possible = (seconds * CORES * 1_000) / (CREATE_MS + SPECIALISE_MS + REMOVE_MS);
    // Time passes in steps here, of which each start loses two.
    expect(answered.length).toBeGreaterThan(0.85 * possible);
    // As long as nobody gives up the wait of who comes rises by the same from one second to the next.
    const waits = [0, 1, 2, 3].map((bin) =>
      median(answered.filter(({ at }) => at >= bin * 3_000 && at < (bin + 1) * 3_000).map(({ waitedMs }) => waitedMs)),
    );
    const rises = waits.slice(1).map((wait, index) => wait - waits[index]!);
    expect(Math.min(...rises)).toBeGreaterThan(0.7 * Math.max(...rises));
    // Who gives up has waited for his whole time, and is not served because he came last.
    expect(answered.every(({ waitedMs }) => waitedMs <= QUEUE_MS)).toBe(true);
  }, 240_000);

  it('leave a full pool behind, and nothing that is not kept', async () => {
    const { host } = await run(keepAliveSeconds, memoryBudgetMib);
    const end = host.clock.now() + 10_000;
    while (host.clock.now() < end) await host.step();
    const states = [...host.world.instances.values()].map(({ state }) => state.kind);
    // Where everything that was started stays, one that is idle goes for a pool that is empty, and for no more.
    const generic = states.filter((kind) => kind === 'generic').length;
    if (keepAliveSeconds === 0) expect([generic, states.length]).toEqual([3, 3]);
    else expect(generic).toBeGreaterThanOrEqual(1);
    expect(host.world.instances.size * 128).toBeLessThanOrEqual(memoryBudgetMib);
  }, 240_000);
});
