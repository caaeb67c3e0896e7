import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planGrants, planHost, planStarts, type Action } from './plan.ts';
import { isGrowing, planRebalance } from './rebalance.ts';
import { addInstance, testRevision, testSettings, want, worldOf } from './testing.ts';
import { World, type RevisionState } from './world.ts';

const KEY = 'default/hello@1';

const setup = (slots = 10, settings = {}) => worldOf(KEY, settings, slots);

const ready = (world: World, idleSince: number | null = 0) => addInstance(world, { kind: 'ready', revision: KEY, idleSince });
const starts = (world: World, revision: RevisionState, now = 0, pooled = 0) => planStarts(world, revision, testSettings(), now, pooled);

describe('planGrants', () => {
  it('gives a lone gateway all free slots of one instance', () => {
    const { world, revision } = setup(50);
    const instance = ready(world);
    want(world, revision, 'g', 1);
    expect(planGrants(world, revision)).toEqual([{ do: 'grant', instance: instance.id, gateway: 'g', slots: 50 }]);
  });

  it('divides what is free among gateways, and serves the one that waits longest first', () => {
    const { world, revision } = setup(10);
    const instance = ready(world);
    want(world, revision, 'late', 1, 0, 5);
    want(world, revision, 'early', 2, 0, 1);
    expect(planGrants(world, revision)).toEqual([
      { do: 'grant', instance: instance.id, gateway: 'early', slots: 5 },
      { do: 'grant', instance: instance.id, gateway: 'late', slots: 5 },
    ]);
  });

  it('packs: an instance in use comes before an idle one', () => {
    const { world, revision } = setup(10);
    ready(world, 0);
    const used = ready(world, 0);
    world.grant(used, 'l-1', 'other', 2);
    want(world, revision, 'g', 3);
    expect(planGrants(world, revision)[0]).toMatchObject({ instance: used.id });
  });

  it('grants nothing of an instance under suspicion', () => {
    const { world, revision } = setup(10);
    ready(world).suspect = true;
    want(world, revision, 'g', 3);
    expect(planGrants(world, revision)).toEqual([]);
  });
});

describe('planStarts', () => {
  it('starts ceil(waiting ÷ slots) less what boots', () => {
    const { world, revision } = setup(50);
    want(world, revision, 'g', 120);
    expect(starts(world, revision).claims).toBe(3);
    addInstance(world, { kind: 'specialising', revision: KEY, since: 0 });
    expect(starts(world, revision).claims).toBe(2);
  });

  it('starts one for one waiter, and none when nobody waits', () => {
    const { world, revision } = setup(50);
    expect(starts(world, revision).claims).toBe(0);
    want(world, revision, 'g', 1);
    expect(starts(world, revision).claims).toBe(1);
  });

  it('stays within max', () => {
    const { world, revision } = setup(1, { max: 3 });
    ready(world, null);
    want(world, revision, 'g', 100, 1);
    expect(starts(world, revision).claims).toBe(2);
  });

  it('keeps its share of min without any demand', () => {
    const { world, revision } = setup(1, { min: 2 });
    expect(starts(world, revision).claims).toBe(2);
    revision.percent = 25;
    expect(starts(world, revision).claims).toBe(1);
    revision.percent = 0;
    expect(starts(world, revision).claims).toBe(0);
    revision.floor = 1;
    expect(starts(world, revision).claims).toBe(1);
  });

  it('thaws the one frozen last before it claims another', () => {
    const { world, revision } = setup(10);
    addInstance(world, { kind: 'frozen', revision: KEY, idleSince: 1 });
    const newer = addInstance(world, { kind: 'frozen', revision: KEY, idleSince: 2 });
    want(world, revision, 'g', 1);
    expect(starts(world, revision)).toMatchObject({ thaw: [newer.id], claims: 0 });
  });

  it('waits for a slot where that is expected to be quicker than a start, but not for ever', () => {
    const { world, revision } = setup(10);
    const instance = ready(world);
    world.grant(instance, 'l-1', 'g', 10);
    want(world, revision, 'g', 1, 10, 100, 8);
    expect(starts(world, revision, 100, 1)).toMatchObject({ claims: 0, askAgainAt: 115 });
    expect(starts(world, revision, 115, 1).claims).toBe(1);
  });

  it('starts at once where slots are held for long', () => {
    const { world, revision } = setup(10);
    const instance = ready(world);
    world.grant(instance, 'l-1', 'g', 10);
    want(world, revision, 'g', 1, 10, 100, 5_000);
    expect(starts(world, revision, 100, 0).claims).toBe(1);
  });

  it('tries one at a time after a failure, and thaws whatever failed', () => {
    const { world, revision } = setup(1);
    revision.failures = 1;
    want(world, revision, 'g', 9);
    expect(starts(world, revision).claims).toBe(1);
    addInstance(world, { kind: 'specialising', revision: KEY, since: 0 });
    expect(starts(world, revision).claims).toBe(0);
    const frozen = addInstance(world, { kind: 'frozen', revision: KEY, idleSince: 1 });
    revision.notBefore = 500;
    expect(starts(world, revision, 100)).toMatchObject({ thaw: [frozen.id], claims: 0, askAgainAt: 500 });
  });

  it('starts nothing while it backs off', () => {
    const { world, revision } = setup(10);
    revision.notBefore = 500;
    want(world, revision, 'g', 1);
    expect(starts(world, revision, 100)).toMatchObject({ claims: 0, askAgainAt: 500 });
  });
});

describe('planRebalance', () => {
  it('takes the half from the one that holds all', () => {
    const { world, revision } = setup(10);
    const instance = ready(world);
    world.grant(instance, 'l-1', 'g', 10);
    want(world, revision, 'g', 5, 10);
    want(world, revision, 'h', 5);
    expect(planRebalance(world, revision)).toEqual([{ do: 'revoke', lease: 'l-1', keeps: 5 }]);
    world.revoke('l-1', 5, 1_000);
    expect(planRebalance(world, revision)).toEqual([]);
  });

  it('is for when nothing is on its way', () => {
    const { world, revision } = setup(10);
    expect(isGrowing(world, revision, false, false)).toBe(false);
    expect(isGrowing(world, revision, true, false)).toBe(false);
    expect(isGrowing(world, revision, true, true)).toBe(true);
    addInstance(world, { kind: 'creating' }, { memoryClassMib: 512 });
    expect(isGrowing(world, revision, true, false)).toBe(false);
    addInstance(world, { kind: 'creating' });
    expect(isGrowing(world, revision, true, false)).toBe(true);
    expect(isGrowing(world, revision, false, false)).toBe(false);
    addInstance(world, { kind: 'thawing', revision: KEY, idleSince: 0 });
    expect(isGrowing(world, revision, false, false)).toBe(true);
  });

  it('takes turns where there is one slot', () => {
    const { world, revision } = setup(1);
    const instance = ready(world);
    world.grant(instance, 'l-1', 'g', 1);
    want(world, revision, 'h', 1);
    expect(planRebalance(world, revision)).toEqual([{ do: 'revoke', lease: 'l-1', keeps: 0 }]);
  });
});

describe('planHost', () => {
  const quiet = -Infinity;
  const need = (revision: RevisionState, claims: number, deadline = 0) => [{ revision, claims, deadline }];
  const count = (actions: Action[], what: Action['do']) => actions.filter((action) => action.do === what).length;

  it('hands out generic instances, and creates what is missing, two at a time', () => {
    const { world, revision } = setup();
    const generic = addInstance(world, { kind: 'generic', since: 0 });
    const { actions } = planHost(world, need(revision, 5), testSettings(), 0, quiet);
    expect(actions.filter((action) => action.do === 'claim')).toEqual([{ do: 'claim', instance: generic.id, revision: KEY }]);
    expect(count(actions, 'create')).toBe(2);
  });

  it('serves first who gives up first', () => {
    const { world, revision } = setup();
    const urgent = testRevision('default/urgent@1');
    world.revisions.set(urgent.key, urgent);
    addInstance(world, { kind: 'generic', since: 0 });
    const { actions } = planHost(world, [...need(revision, 1, 9_000), ...need(urgent, 1, 1_000)], testSettings(), 0, quiet);
    expect(actions.find((action) => action.do === 'claim')).toMatchObject({ revision: urgent.key });
  });

  it('does not create again for whom an instance is being created', () => {
    const { world, revision } = setup();
    addInstance(world, { kind: 'creating' });
    const { actions } = planHost(world, need(revision, 1), testSettings({ poolSize: 0 }), 0, quiet);
    expect(actions).toEqual([]);
  });

  it('refills when no claim was made for a while', () => {
    const { world } = setup();
    const settings = testSettings({ poolSize: 1 });
    expect(planHost(world, [], settings, 10, 0)).toEqual({ actions: [], askAgainAt: 50, overQuota: [] });
    expect(count(planHost(world, [], settings, 50, 0).actions, 'create')).toBe(1);
  });

  it('stops an idle instance for the first of an empty pool, and none for more', () => {
    const { world } = setup();
    const idle = addInstance(world, { kind: 'frozen', revision: KEY, idleSince: 1 });
    addInstance(world, { kind: 'frozen', revision: KEY, idleSince: 2 });
    const settings = testSettings({ memoryBudgetMib: 256, poolShare: 1, poolSize: 2 });
    expect(planHost(world, [], settings, 1_000, 0).actions).toEqual([{ do: 'stop', instance: idle.id, reason: 'evicted' }]);
    world.transition(idle, { kind: 'draining', revision: KEY, since: 1_000 });
    // It is on its way out: that is room enough.
    expect(planHost(world, [], settings, 1_000, 0).actions).toEqual([]);
    world.removeInstance(idle.id);
    expect(planHost(world, [], settings, 1_000, 0).actions).toEqual([{ do: 'create', pool: settings.defaultPool }]);
    addInstance(world, { kind: 'generic', since: 1_000 });
    expect(planHost(world, [], settings, 2_000, 0).actions).toEqual([]);
  });

  it('refills no pool with the room that somebody waits for', () => {
    const { world } = setup();
    const big = testRevision('default/big@1', { memoryMib: 256 });
    world.revisions.set(big.key, big);
    addInstance(world, { kind: 'draining', revision: KEY, since: 0 }, { memoryMib: 256, memoryClassMib: 256 });
    // Where refills wait for nobody for long, and 128 of 384 MiB are free.
    const settings = testSettings({ memoryBudgetMib: 384, poolShare: 1, poolSize: 1, refillDelayMs: 0, refillMaxDelayMs: 0 });
    expect(planHost(world, need(big, 1), settings, 20, quiet).actions).toEqual([]);
    expect(planHost(world, [], settings, 20, quiet).actions).toMatchObject([{ do: 'create', pool: { memoryClassMib: 128 } }]);
  });

  it('evicts the one idle longest when the budget is used up, and waits for it to go', () => {
    const { world, revision } = setup();
    const other = testRevision('default/other@1');
    world.revisions.set(other.key, other);
    addInstance(world, { kind: 'ready', revision: other.key, idleSince: 9 });
    const oldest = addInstance(world, { kind: 'frozen', revision: other.key, idleSince: 1 });
    const settings = testSettings({ memoryBudgetMib: 256, poolSize: 0 });
    expect(planHost(world, need(revision, 1), settings, 20, quiet).actions).toEqual([
      { do: 'stop', instance: oldest.id, reason: 'evicted' },
    ]);
    world.transition(oldest, { kind: 'draining', revision: other.key, since: 20 });
    expect(planHost(world, need(revision, 1), settings, 20, quiet).actions).toEqual([]);
    world.removeInstance(oldest.id);
    expect(planHost(world, need(revision, 1), settings, 20, quiet).actions).toMatchObject([{ do: 'create' }]);
  });

  it('never evicts what is in use or counted by min', () => {
    const { world, revision } = setup();
    const kept = testRevision('default/kept@1', { min: 1 });
    world.revisions.set(kept.key, kept);
    addInstance(world, { kind: 'ready', revision: kept.key, idleSince: 1 });
    const busy = ready(world, 0);
    world.grant(busy, 'l-9', 'g', 1);
    const settings = testSettings({ memoryBudgetMib: 256, poolSize: 0 });
    expect(planHost(world, need(revision, 1), settings, 20, quiet).actions).toEqual([]);
  });

  it('evicts nothing where that would not make enough room', () => {
    const { world } = setup();
    const big = testRevision('default/big@1', { memoryMib: 512 });
    world.revisions.set(big.key, big);
    const busy = ready(world, 0);
    world.grant(busy, 'l-9', 'g', 1);
    ready(world, 0);
    const settings = testSettings({ memoryBudgetMib: 512, poolSize: 0 });
    expect(planHost(world, need(big, 1), settings, 20, quiet).actions).toEqual([]);
  });

  it('evicts for CPU only what takes CPU: never the generic instance that it wants to claim', () => {
    const { world, revision } = setup();
    const other = testRevision('default/other@1');
    world.revisions.set(other.key, other);
    const generic = addInstance(world, { kind: 'generic', since: 0 });
    const idle = addInstance(world, { kind: 'ready', revision: other.key, idleSince: 1 });
    const settings = testSettings({ cpuBudget: 1 });
    const { actions } = planHost(world, need(revision, 1), { ...settings, poolSize: 0 }, 20, quiet);
    expect(actions).toEqual([{ do: 'stop', instance: idle.id, reason: 'evicted' }]);
    world.transition(idle, { kind: 'draining', revision: other.key, since: 20 });
    world.removeInstance(idle.id);
    expect(planHost(world, need(revision, 1), { ...settings, poolSize: 0 }, 21, quiet).actions).toEqual([
      { do: 'claim', instance: generic.id, revision: KEY },
    ]);
  });

  it('evicts nothing that was busy a moment ago or that somebody waits for', () => {
    const { world, revision } = setup();
    const other = testRevision('default/other@1');
    world.revisions.set(other.key, other);
    const idle = addInstance(world, { kind: 'ready', revision: other.key, idleSince: 1 }, { notBefore: 50 });
    const settings = testSettings({ memoryBudgetMib: 128, poolSize: 0 });
    expect(planHost(world, need(revision, 1), settings, 20, quiet).actions).toEqual([]);
    want(world, other, 'g', 1);
    expect(planHost(world, need(revision, 1), settings, 60, quiet).actions).toEqual([]);
    want(world, other, 'g', 0, 1);
    expect(planHost(world, need(revision, 1), settings, 60, quiet).actions).toEqual([{ do: 'stop', instance: idle.id, reason: 'evicted' }]);
  });

  it('stops generic instances of a pool that nobody uses', () => {
    const { world } = setup();
    const odd = addInstance(world, { kind: 'generic', since: 0 }, { memoryClassMib: 512, memoryMib: 512 });
    const settings = testSettings({ poolSize: 0 });
    expect(planHost(world, [], settings, 10, 0)).toEqual({ actions: [], askAgainAt: 30_000, overQuota: [] });
    expect(planHost(world, [], settings, 30_000, 0).actions).toEqual([{ do: 'stop', instance: odd.id, reason: 'excess' }]);
  });

  it('stays within the budget and the cap on creates, whatever is asked for', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ claims: fc.integer({ min: 0, max: 20 }), memoryMib: fc.constantFrom(64, 128, 512, 1_024) }), { maxLength: 6 }),
        fc.integer({ min: 256, max: 4_096 }),
        fc.integer({ min: 0, max: 4 }),
        (asks, memoryBudgetMib, generics) => {
          const world = new World();
          const settings = testSettings({ memoryBudgetMib, maxCreates: 3 });
          const needs = asks.map(({ claims, memoryMib }, index) => {
            const revision = testRevision(`default/f${index}@1`, { memoryMib }, 1);
            world.revisions.set(revision.key, revision);
            return { revision, claims, deadline: index };
          });
          for (let n = 0; n < generics && (n + 1) * 128 <= memoryBudgetMib; n += 1) addInstance(world, { kind: 'generic', since: 0 });
          const { actions } = planHost(world, needs, settings, 100, -Infinity);
          const creates = actions.filter((action) => action.do === 'create');
          const added = creates.reduce((sum, action) => sum + action.pool.memoryClassMib, 0);
          expect(creates.length).toBeLessThanOrEqual(3);
          expect(world.memoryUsedMib() + added).toBeLessThanOrEqual(memoryBudgetMib);
          const claimed = actions.filter((action) => action.do === 'claim').map((action) => action.instance);
          expect(new Set(claimed).size).toBe(claimed.length);
        },
      ),
    );
  });
});
