/** That the planner looks at all that has changed: after whatever happens, a look at everything finds nothing left to decide. */
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { newLeaseId } from '#kit/ids.ts';
import { addInstance, testRevision, testSettings, want } from '../core/testing.ts';
import { poolKeyText, revisionOf, World, type Instance, type RevisionState } from '../core/world.ts';
import type { PlannerPass } from './options.ts';
import { Planner } from './planner.ts';

const GATEWAYS = ['g1/1', 'g2/1', 'g3/1'];
const REVOKE_MS = 400;
/** Passes until nothing is decided any more; more would be a planner that undoes what it did. */
const MAX_PASSES = 60;

/** mulberry32 */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A planner with imaginary hands: what it asks for is under way until the test lets it end. */
class Stage {
  readonly clock = new VirtualClock();
  readonly world = new World();
  readonly random: () => number;
  readonly planner: Planner;
  readonly revisions: RevisionState[] = [];
  readonly underWay: (() => void)[] = [];
  last: PlannerPass | null = null;
  passes = 0;
  readonly log: string[] = [];
  readonly did: string[] = [];

  constructor(seed: number) {
    this.random = randomOf(seed);
    const settings = testSettings({
      memoryBudgetMib: 128 * 9,
      poolSize: 2,
      refillDelayMs: 30,
      freezeAfterMs: this.random() < 0.5 ? null : 40,
      previewKeepAliveMs: 50,
      rollbackGraceMs: 60,
      rebalanceEveryMs: 100,
      excessAfterMs: 80,
    });
    const { world, clock } = this;
    const drain = (instance: Instance) => {
      for (const lease of instance.leases.values()) world.leaseIndex.delete(lease.id);
      instance.leases.clear();
      world.transition(instance, { kind: 'draining', revision: revisionOf(instance), since: clock.now() });
      this.later(instance, 'draining', () => world.removeInstance(instance.id));
    };
    this.planner = new Planner(
      { world, clock, settings, log: { ...silentLog, error: (fields) => void this.log.push(JSON.stringify(fields)) }, leads: () => true },
      {
        forms: new Map(),
        create: (pool) => {
          this.did.push('create');
          const instance = addInstance(world, { kind: 'creating' }, { ...pool, cpu: 0 });
          this.later(instance, 'creating', () => {
            if (this.random() < 0.1) drain(instance);
            else world.transition(instance, { kind: 'generic', since: clock.now() });
          });
        },
        claim: (instance, revision) => {
          this.did.push(`claim ${revision.key}`);
          world.transition(instance, { kind: 'specialising', revision: revision.key, since: clock.now() });
          instance.cpu = 1;
          this.planner.claimed();
          this.later(instance, 'specialising', () => {
            if (this.random() < 0.15) {
              Object.assign(revision, { failures: revision.failures + 1, notBefore: clock.now() + 150 });
              drain(instance);
              return;
            }
            Object.assign(revision, { failures: 0 });
            world.transition(instance, { kind: 'ready', revision: revision.key, idleSince: clock.now() });
          });
        },
        thaw: (instance) => {
          this.did.push(`thaw ${instance.id}`);
          if (instance.state.kind !== 'frozen') return;
          const { revision, idleSince } = instance.state;
          world.transition(instance, { kind: 'thawing', revision, idleSince });
          this.later(instance, 'thawing', () => world.transition(instance, { kind: 'ready', revision, idleSince: clock.now() }));
        },
        settle: (instance, goal) => {
          this.did.push(`settle ${instance.id} ${goal}`);
          if (instance.state.kind === 'frozen') {
            drain(instance);
            return;
          }
          if (instance.state.kind !== 'ready' || instance.state.idleSince === null) return;
          const { revision, idleSince } = instance.state;
          world.transition(instance, { kind: 'settling', revision, idleSince, goal });
          this.later(instance, 'settling', () => {
            if (this.random() < 0.3) {
              instance.notBefore = clock.now() + 70;
              world.transition(instance, { kind: 'ready', revision, idleSince });
            } else if (goal === 'stop') drain(instance);
            else world.transition(instance, { kind: 'frozen', revision, idleSince });
          });
        },
        kill: (instance) => {
          this.did.push(`kill ${instance.id}`);
          drain(instance);
        },
      },
      {
        grant: (instance, gateway, slots) => {
          this.did.push(`grant ${instance.id} ${gateway} ${slots}`);
          world.grant(instance, newLeaseId(), gateway, slots);
        },
        revoke: (lease, keeps) => {
          this.did.push(`revoke ${keeps}`);
          world.revoke(lease, keeps, clock.now() + REVOKE_MS);
        },
      },
      () => {},
    );
    this.planner.onPass = (pass) => {
      this.last = pass;
      this.passes += 1;
    };
    for (let number = 0; number < 5; number += 1) {
      const max = 1 + Math.floor(this.random() * 4);
      const settingsOf = { keepAliveSeconds: number < 3 ? 0.2 : ('auto' as const), max, min: number === 0 ? 1 : 0 };
      const revision = testRevision(`default/f${number}@1`, settingsOf, 1 + Math.floor(this.random() * 3));
      // What stays for hours would be seen by nobody here.
      revision.use = { ...revision.use, policy: () => ({ stayMs: 100, prewarm: { fromMs: 250, untilMs: 400 } }) };
      world.revisions.set(revision.key, revision);
      this.revisions.push(revision);
    }
    this.planner.start();
  }

  /** Something takes its time; it comes to nothing where the instance has become something else meanwhile. */
  later(instance: Instance, kind: Instance['state']['kind'], end: () => void): void {
    this.underWay.push(() => {
      if (this.world.instances.get(instance.id) === instance && instance.state.kind === kind) end();
    });
  }

  one<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.random() * from.length)];
  }

  /** What happens to a platform. Whoever does it says so as the engine's parts do. */
  happen(): string {
    const { world, clock, planner } = this;
    const dice = this.random();
    const revision = this.one(this.revisions)!;
    const gateway = this.one(GATEWAYS)!;
    const leases = [...world.instances.values()].flatMap((instance) => [...instance.leases.values()]);
    if (dice < 0.3) {
      const waiting = this.random() < 0.4 ? 0 : Math.floor(this.random() * 5);
      want(world, revision, gateway, waiting, 0, clock.now(), this.random() < 0.5 ? 0 : 8);
      planner.touched();
      return `want ${revision.key} ${gateway} ${waiting}`;
    }
    if (dice < 0.5) {
      const index = Math.floor(this.random() * this.underWay.length);
      this.underWay.splice(index, 1)[0]?.();
      planner.touched();
      return 'something ends';
    }
    if (dice < 0.62) {
      const lease = this.one(leases);
      if (lease !== undefined) world.shrink(lease.id, this.random() < 0.6 ? 0 : lease.slots - 1, clock.now());
      planner.touched();
      return 'release';
    }
    if (dice < 0.86) {
      clock.advance(1 + Math.floor(this.random() * 120));
      return `${clock.now()} ms`;
    }
    if (dice < 0.89) {
      world.dropGateway(gateway, clock.now());
      planner.touched();
      return `${gateway} is lost`;
    }
    if (dice < 0.92) {
      const instance = this.one([...world.instances.values()].filter(({ state }) => state.kind === 'ready' || state.kind === 'generic'));
      if (instance !== undefined) {
        world.removeInstance(instance.id);
        planner.touched();
      }
      return 'a death';
    }
    if (dice < 0.95) {
      for (const instance of world.instancesOf(revision.key)) instance.stale = true;
      planner.kick();
      return `${revision.key} is stale`;
    }
    if (dice < 0.97) {
      revision.floor = revision.floor === 0 ? 1 + Math.floor(this.random() * 2) : 0;
      planner.kick();
      return `floor ${revision.floor} of ${revision.key}`;
    }
    world.revisions.set(revision.key, revision);
    if (revision.percent > 0) Object.assign(revision, { percent: 0, lostShareAt: clock.now() });
    else Object.assign(revision, { percent: 100, lostShareAt: null });
    planner.kick();
    return `${revision.key} gets ${revision.percent} %`;
  }

  /** What was asked for is done: until a pass decides nothing. */
  async settle(): Promise<void> {
    await setImmediate();
    for (let count = 0; count < MAX_PASSES; count += 1) {
      this.planner.touched();
      await setImmediate();
      if (this.last?.decisions === 0) return;
    }
    throw new Error('the planner does not come to rest');
  }

  describe(): string {
    const of = [...this.world.instances.values()].map(
      (instance) => `${instance.id} ${instance.state.kind} ${revisionOf(instance) ?? poolKeyText(instance)} ${instance.leases.size}`,
    );
    return [...this.log, ...of].join('\n');
  }
}

describe('the planner', () => {
  it.each(Array.from({ length: 40 }, (_, seed) => seed))('leaves nothing undecided, whatever happens (%i)', async (seed) => {
    const stage = new Stage(seed);
    const story: string[] = [];
    await stage.settle();
    for (let step = 0; step < 250; step += 1) {
      story.push(stage.happen());
      await stage.settle();
      stage.planner.kick();
      const before = stage.passes;
      stage.did.length = 0;
      await setImmediate();
      expect(stage.passes).toBe(before + 1);
      if (stage.last?.decisions !== 0)
        throw new Error(`a look at all decided ${stage.did.join(', ')} after:\n${story.slice(-6).join('\n')}\n${stage.describe()}`);
    }
    expect(stage.log).toEqual([]);
    stage.planner.stop();
  });
});

describe('refills', () => {
  const CLAIM_EVERY_MS = 20;

  /** Claims follow each other for so long; whether a pool that is short is filled meanwhile, and after how long. */
  async function refilledAfter(refillMaxDelayMs: number, forMs: number): Promise<number | null> {
    const clock = new VirtualClock();
    const world = new World();
    const created: number[] = [];
    const planner = new Planner(
      {
        world,
        clock,
        settings: testSettings({ poolSize: 1, refillDelayMs: 100, refillMaxDelayMs }),
        log: { ...silentLog, error: (fields) => expect.unreachable(JSON.stringify(fields)) },
        leads: () => true,
      },
      {
        forms: new Map(),
        create: (pool) => {
          created.push(clock.now());
          addInstance(world, { kind: 'creating' }, { ...pool, cpu: 0 });
        },
        claim: () => {},
        settle: () => {},
        thaw: () => {},
        kill: () => {},
      },
      { grant: () => {}, revoke: () => {} },
      () => {},
    );
    planner.claimed();
    planner.start();
    const begun = clock.now();
    while (clock.now() - begun < forMs && created.length === 0) {
      planner.claimed();
      planner.kick();
      clock.advance(CLAIM_EVERY_MS);
      await setImmediate();
    }
    planner.stop();
    return created.length === 0 ? null : created[0]! - begun;
  }

  it('wait while claims follow each other, where they would compete with them', async () => {
    expect(await refilledAfter(Infinity, 5_000)).toBeNull();
  });

  it('wait for some of them only, where instances are made elsewhere', async () => {
    const after = await refilledAfter(1_000, 5_000);
    expect(after).toBeGreaterThanOrEqual(900);
    expect(after).toBeLessThanOrEqual(1_100);
  });
});
