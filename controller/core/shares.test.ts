/** Shares of traffic, instances that are stale, and quotas of namespaces, in the decisions. */
import { describe, expect, it } from 'vitest';
import { planGrants, planHost, planStarts } from './plan.ts';
import { planIdle } from './plan-idle.ts';
import { poolTargets } from './pool.ts';
import { addInstance, testRevision, testSettings, want, worldOf } from './testing.ts';
import { minOf, World, type InstanceState } from './world.ts';

const KEY = 'default/hello@1';

const setup = (settings = {}, slots = 10) => worldOf(KEY, settings, slots);

const ready = (world: World, idleSince: number | null = 0, revision = KEY) => addInstance(world, { kind: 'ready', revision, idleSince });

describe('a share of the traffic', () => {
  it.each([
    [3, 100, 3],
    [3, 50, 2],
    [3, 1, 1],
    [3, 0, 0],
    [0, 100, 0],
    [100, 7, 7],
  ])('min %i with %i percent: %i', (min, percent, expected) => {
    const { revision } = setup({ min });
    revision.percent = percent;
    expect(minOf(revision)).toBe(expected);
  });

  it('that is none: a moment of keep-alive for a preview, and for what has just lost it', () => {
    const { world, revision } = setup({ keepAliveSeconds: 300, min: 2 });
    const settings = testSettings({ previewKeepAliveMs: 5_000, rollbackGraceMs: 10_000, freezeAfterMs: null });
    revision.percent = 0;
    const { id } = ready(world, 1_000);
    const stop = [{ do: 'stop', instance: id, reason: 'keep-alive' }];
    expect(planIdle(world, revision, settings, 5_999)).toEqual({ actions: [], askAgainAt: 6_000 });
    expect(planIdle(world, revision, settings, 6_000).actions).toEqual(stop);
    revision.lostShareAt = 4_000;
    expect(planIdle(world, revision, settings, 6_000)).toEqual({ actions: [], askAgainAt: 14_000 });
    expect(planIdle(world, revision, settings, 14_000).actions).toEqual(stop);
    // Never longer than with traffic.
    revision.revision.settings.keepAliveSeconds = 1;
    expect(planIdle(world, revision, settings, 5_000).actions).toEqual(stop);
  });

  it('that is none keeps no pool, and an image has a pool of its own', () => {
    const { world, revision } = setup({ runtime: 'image', memoryMib: 256 });
    revision.revision = { ...revision.revision, image: `sha256:${'a'.repeat(64)}` };
    const settings = testSettings({ poolSize: 2 });
    expect([...poolTargets(world, settings).values()].map(({ pool, count }) => [pool.image, count])).toEqual([
      [null, 2],
      [revision.revision.image, 1],
    ]);
    revision.percent = 0;
    expect(poolTargets(world, settings).size).toBe(1);
  });

  it('instances of one image are not claimed for another', () => {
    const { world, revision } = setup({ runtime: 'image' });
    revision.revision = { ...revision.revision, image: 'sha256:a' };
    addInstance(world, { kind: 'generic', since: 0 }, { runtime: 'image', image: 'sha256:b' });
    const { actions } = planHost(world, [{ revision, claims: 1, deadline: 0 }], testSettings({ poolSize: 0 }), 0, 0);
    expect(actions).toEqual([
      { do: 'create', pool: { runtime: 'image', memoryClassMib: 128, network: 'none', image: 'sha256:a', sandbox: null } },
    ]);
  });
});

describe('a stale instance', () => {
  const stale = (world: World, state: InstanceState) => addInstance(world, state, { stale: true });

  it('gets no grants, and is stopped once it is idle, whatever min says', () => {
    const { world, revision } = setup({ min: 1, keepAliveSeconds: 600 });
    const { id } = stale(world, { kind: 'ready', revision: KEY, idleSince: 0 });
    want(world, revision, 'g', 1);
    expect(planGrants(world, revision)).toEqual([]);
    expect(planIdle(world, revision, testSettings(), 0).actions).toEqual([{ do: 'stop', instance: id, reason: 'stale' }]);
  });

  it('is not stopped while something may be in flight in it', () => {
    const { world, revision } = setup();
    stale(world, { kind: 'ready', revision: KEY, idleSince: 0 }).notBefore = 500;
    expect(planIdle(world, revision, testSettings(), 100)).toEqual({ actions: [], askAgainAt: 500 });
  });

  it('counts neither for min, nor for a floor, nor against max', () => {
    const { world, revision } = setup({ min: 1, max: 2 }, 1);
    const starts = () => planStarts(world, revision, testSettings(), 0, 5).claims;
    for (let n = 0; n < 2; n += 1) world.grant(ready(world), `l-${n}`, 'g', 1);
    for (const instance of world.instances.values()) instance.stale = true;
    expect(starts()).toBe(1);
    revision.floor = 2;
    expect(starts()).toBe(2);
    want(world, revision, 'g', 5, 2);
    expect(starts()).toBe(2);
  });

  it('serves whoever holds it, and nobody else', () => {
    const { world } = setup();
    const instance = ready(world);
    expect(world.canServe(KEY)).toBe(true);
    instance.stale = true;
    expect(world.canServe(KEY)).toBe(false);
    instance.stale = false;
    world.grant(instance, 'l-1', 'g', 1);
    instance.stale = true;
    expect(world.canServe(KEY)).toBe(true);
  });
});

describe('the memory of a namespace', () => {
  const settings = testSettings({ poolSize: 0, quotas: new Map([['team', 256]]) });

  function team() {
    const world = new World();
    for (const name of ['a', 'b', 'c']) world.revisions.set(`team/${name}@1`, testRevision(`team/${name}@1`, { memoryMib: 128 }));
    const needs = (name: string, claims = 1) => ({ revision: world.revisions.get(`team/${name}@1`)!, claims, deadline: 0 });
    for (let n = 0; n < 4; n += 1) addInstance(world, { kind: 'generic', since: 0 });
    return { world, needs };
  }

  it('holds its claims to the quota; what is over is said', () => {
    const { world, needs } = team();
    const { actions, overQuota } = planHost(world, [needs('a', 3)], settings, 0, 0);
    expect(actions.filter((action) => action.do === 'claim')).toHaveLength(2);
    expect(overQuota.map((revision) => revision.key)).toEqual(['team/a@1']);
  });

  it('makes room by what is idle longest of its own, and of nobody else', () => {
    const { world, needs } = team();
    world.revisions.set(KEY, testRevision(KEY));
    ready(world, 0);
    const older = ready(world, 10, 'team/a@1');
    ready(world, 20, 'team/b@1');
    const { actions, overQuota } = planHost(world, [needs('c')], settings, 100, 0);
    expect(actions).toEqual([{ do: 'stop', instance: older.id, reason: 'evicted' }]);
    expect(overQuota).toEqual([]);
    // What is on its way out is waited for; nothing more is stopped for it.
    world.transition(older, { kind: 'settling', revision: 'team/a@1', idleSince: 10, goal: 'stop' });
    expect(planHost(world, [needs('c')], settings, 100, 0)).toMatchObject({ actions: [], overQuota: [] });
    world.transition(older, { kind: 'draining', revision: 'team/a@1', since: 100 });
    expect(planHost(world, [needs('c')], settings, 100, 0)).toMatchObject({ actions: [], overQuota: [] });
    world.removeInstance(older.id);
    expect(planHost(world, [needs('c')], settings, 100, 0).actions).toMatchObject([{ do: 'claim', revision: 'team/c@1' }]);
  });

  it('creates nothing that it could not use', () => {
    const { world, needs } = team();
    for (const instance of [...world.instances.values()]) world.removeInstance(instance.id);
    for (const name of ['a', 'b']) world.grant(ready(world, 0, `team/${name}@1`), `l-${name}`, 'g', 1);
    expect(planHost(world, [needs('c')], settings, 0, 0)).toMatchObject({ actions: [], overQuota: [{ key: 'team/c@1' }] });
  });
});
