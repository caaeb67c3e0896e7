import { describe, expect, it } from 'vitest';
import { planHost, planStarts } from '../plan.ts';
import { planIdle } from '../plan-idle.ts';
import { addInstance, testRevision, testSettings, want } from '../testing.ts';
import { World } from '../world.ts';
import { held } from './history.ts';
import type { Stay } from './policy.ts';
import { nextPrewarmAt, noteUse, prewarmOf } from './use.ts';

const KEY = 'default/hello@1';
const SECOND = 1_000;
const settings = testSettings({ freezeAfterMs: null });

/** A function that stays for ten seconds and comes back from 60 to 90. */
function setup(stay: Stay = { stayMs: 10 * SECOND, prewarm: { fromMs: 60 * SECOND, untilMs: 90 * SECOND } }, own = {}) {
  const world = new World();
  const revision = testRevision(KEY, { keepAliveSeconds: 'auto', ...own });
  revision.use = { ...revision.use, policy: () => stay };
  world.revisions.set(KEY, revision);
  const idle = (idleSince: number, more = {}) => addInstance(world, { kind: 'ready', revision: KEY, idleSince }, more);
  /** Used once, until then. */
  const used = (now: number) => {
    want(world, revision, 'g', 1, 0, now - 1);
    noteUse(world, revision, now - 1);
    want(world, revision, 'g', 0, 0, now);
    noteUse(world, revision, now);
  };
  const stops = (now: number) =>
    planIdle(world, revision, settings, now).actions.flatMap((action) => ('instance' in action ? action.instance : []));
  const claims = (now: number) => planStarts(world, revision, settings, now, 1);
  return { world, revision, idle, used, stops, claims };
}

describe('when a function is used', () => {
  it('is from the first who waits to the last lease, of whatever revision; what is between is an idle time', () => {
    const { world, revision, idle, used } = setup();
    const other = testRevision('default/hello@2');
    other.use = revision.use;
    world.revisions.set(other.key, other);
    used(1_000);
    expect(revision.use.idleSince).toBe(1_000);
    const instance = idle(1_000);
    world.grant(instance, 'l-1', 'g', 1);
    noteUse(world, revision, 61_000);
    want(world, other, 'g', 1, 0, 70_000);
    noteUse(world, other, 70_000);
    world.release('l-1', 80_000);
    noteUse(world, revision, 80_000);
    expect(revision.use.idleSince).toBeNull();
    want(world, other, 'g', 0, 0, 90_000);
    noteUse(world, other, 90_000);
    expect([revision.use.idleSince, revision.use.history.recent, held(revision.use.history)]).toEqual([90_000, [60_000], 1]);
    expect(revision.use.changed).toBe(true);
  });

  it('is not kept up by a revision that is gone', () => {
    const { world, revision, used } = setup();
    used(1_000);
    const gone = testRevision('default/hello@2');
    gone.use = revision.use;
    world.revisions.set(gone.key, gone);
    want(world, gone, 'g', 1, 0, 2_000);
    noteUse(world, gone, 2_000);
    world.revisions.delete(gone.key);
    noteUse(world, revision, 3_000);
    expect(revision.use.idleSince).toBe(3_000);
  });
});

describe('keep-alive by what is known', () => {
  it('the instance that was used last stays as the policy says, one beside it five minutes at most', () => {
    const { idle, used, stops } = setup({ stayMs: 3_600 * SECOND, prewarm: null });
    used(1_000);
    const beside = idle(0);
    const last = idle(1_000);
    expect(stops(299_000)).toEqual([]);
    expect(stops(301_000)).toEqual([beside.id]);
    expect(stops(3_601_000)).toEqual([beside.id, last.id]);
  });

  it('while the function is in use those that are idle go as if beside another', () => {
    const { world, revision, idle, stops } = setup({ stayMs: 3_600 * SECOND, prewarm: null });
    const spare = idle(0);
    world.grant(idle(0), 'l-1', 'g', 1);
    noteUse(world, revision, 0);
    expect(stops(299_000)).toEqual([]);
    expect(stops(300_000)).toEqual([spare.id]);
  });

  it('brings one up from nothing before the next use, and gives it up when nobody comes', () => {
    const { revision, idle, used, stops, claims } = setup();
    used(1_000);
    expect(claims(60_999)).toMatchObject({ claims: 0, prewarm: false });
    expect(nextPrewarmAt(revision, 2_000)).toBe(61_000);
    expect(claims(61_000)).toMatchObject({ claims: 1, prewarm: true });
    expect(nextPrewarmAt(revision, 61_000)).toBe(91_000);
    const instance = idle(61_100, { prewarmed: true });
    expect(claims(61_200).claims).toBe(0);
    expect(stops(90_999)).toEqual([]);
    expect(stops(91_000)).toEqual([instance.id]);
    expect(claims(91_000).claims).toBe(0);
    expect(nextPrewarmAt(revision, 91_000)).toBeNull();
  });

  it.each([
    ['that has a fixed time', { keepAliveSeconds: 60 }, {}],
    ['of which another revision has most of the traffic', {}, { percent: 40 }],
    ['that does not start', {}, { failures: 1 }],
    ['that nothing leads to', {}, { routed: false }],
  ])('brings up none of one %s', (_, own, state) => {
    const { revision, used } = setup(undefined, own);
    used(1_000);
    Object.assign(revision, state);
    expect(prewarmOf(revision)).toBeNull();
  });

  it('takes what is free, and neither stops anything for it nor goes before who waits', () => {
    const { world, revision } = setup();
    const need = { revision, claims: 1, deadline: Infinity, prewarm: true };
    const full = testSettings({ memoryBudgetMib: 256, poolSize: 0 });
    const plan = (limits = full, needs = [need]) => planHost(world, needs, limits, 0, -Infinity).actions;
    expect(plan()).toEqual([expect.objectContaining({ do: 'create' })]);
    const other = testRevision('default/other@1');
    world.revisions.set(other.key, other);
    for (let count = 0; count < 2; count += 1) addInstance(world, { kind: 'ready', revision: other.key, idleSince: 0 });
    expect(plan()).toEqual([]);
    const roomy = testSettings({ memoryBudgetMib: 1_024, poolSize: 0 });
    const generic = addInstance(world, { kind: 'generic', since: 0 });
    expect(plan(roomy)).toEqual([{ do: 'claim', instance: generic.id, revision: KEY, prewarm: true }]);
    expect(plan({ ...roomy, quotas: new Map([['default', 256]]) })).toEqual([]);
    expect(plan(roomy, [need, { revision: other, claims: 1, deadline: 5, prewarm: false }])).toEqual([
      { do: 'claim', instance: generic.id, revision: other.key },
      expect.objectContaining({ do: 'create' }),
    ]);
  });

  it('does not take the last of a pool on a full host: another would go for the next of the pool, and they would take turns', () => {
    const { world, revision } = setup();
    const other = testRevision('default/other@1');
    const need = { revision, claims: 1, deadline: Infinity, prewarm: true };
    world.revisions.set(other.key, other);
    addInstance(world, { kind: 'frozen', revision: other.key, idleSince: 0 });
    const generic = addInstance(world, { kind: 'generic', since: 0 });
    const plan = (more = {}) =>
      planHost(world, [need], testSettings({ memoryBudgetMib: 256, poolShare: 1, poolSize: 1, ...more }), 0, -Infinity);
    expect(plan().actions).toEqual([]);
    const claimed = { do: 'claim', instance: generic.id, revision: KEY, prewarm: true };
    // One without a pool was made for it; a pool that has another, or room for one, has nothing stopped.
    expect(plan({ poolSize: 0 }).actions).toEqual([claimed]);
    expect(plan({ memoryBudgetMib: 384 }).actions).toEqual([claimed, expect.objectContaining({ do: 'create' })]);
    addInstance(world, { kind: 'generic', since: 1 });
    expect(plan({ memoryBudgetMib: 384 }).actions).toEqual([claimed]);
  });
});
