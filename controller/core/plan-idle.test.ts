import { describe, expect, it } from 'vitest';
import { idleStops, planIdle } from './plan-idle.ts';
import { addInstance, testSettings, worldOf } from './testing.ts';
import type { World } from './world.ts';

const KEY = 'default/hello@1';

const ready = (world: World, idleSince: number | null = 0) => addInstance(world, { kind: 'ready', revision: KEY, idleSince });

describe('planIdle', () => {
  const settings = testSettings();

  it('freezes after a second, stops after the keep-alive', () => {
    const { world, revision } = worldOf(KEY, { keepAliveSeconds: 60 });
    const instance = ready(world, 1_000);
    expect(planIdle(world, revision, settings, 1_500)).toEqual({ actions: [], askAgainAt: 2_000 });
    expect(planIdle(world, revision, settings, 2_000).actions).toEqual([{ do: 'freeze', instance: instance.id }]);
    expect(planIdle(world, revision, settings, 61_000).actions).toEqual([{ do: 'stop', instance: instance.id, reason: 'keep-alive' }]);
  });

  it('leaves min alone', () => {
    const { world, revision } = worldOf(KEY, { keepAliveSeconds: 0, min: 1 });
    const older = ready(world, 0);
    ready(world, 10);
    expect(planIdle(world, revision, settings, 5_000).actions).toEqual([{ do: 'stop', instance: older.id, reason: 'keep-alive' }]);
  });

  it('tells people what it is about to do: when each goes, and which min keeps', () => {
    const { world, revision } = worldOf(KEY, { keepAliveSeconds: 60, min: 2 });
    const older = ready(world, 0);
    const newer = ready(world, 10_000);
    const used = ready(world, null);
    world.grant(used, 'l-1', 'g', 1);
    expect([...idleStops(world, revision, settings, 20_000)]).toEqual([
      [older.id, 60_000],
      [newer.id, null],
    ]);
    expect(planIdle(world, revision, settings, 59_999).actions).toEqual([]);
    expect(planIdle(world, revision, settings, 60_000).actions).toEqual([{ do: 'stop', instance: older.id, reason: 'keep-alive' }]);
  });

  it('leaves min alone while another instance is about to be stopped', () => {
    const { world, revision } = worldOf(KEY, { keepAliveSeconds: 0, min: 1 });
    const older = ready(world, 0);
    ready(world, 10);
    world.transition(older, { kind: 'settling', revision: revision.key, idleSince: 0, goal: 'stop' });
    expect(planIdle(world, revision, settings, 5_000).actions).toEqual([]);
    // It was busy after all.
    world.transition(older, { kind: 'ready', revision: revision.key, idleSince: 0 });
    expect(planIdle(world, revision, settings, 5_000).actions).toEqual([{ do: 'stop', instance: older.id, reason: 'keep-alive' }]);
  });

  it('stops what no traffic goes to any more, as soon as no gateway holds it', () => {
    const { world, revision } = worldOf(KEY);
    revision.routed = false;
    const instance = ready(world);
    world.grant(instance, 'l-1', 'g', 1);
    expect(planIdle(world, revision, settings, 0).actions).toEqual([]);
    world.release('l-1', 5);
    expect(planIdle(world, revision, settings, 5).actions).toEqual([{ do: 'stop', instance: instance.id, reason: 'unrouted' }]);
  });

  it('does not touch one in which something was found in flight', () => {
    const { world, revision } = worldOf(KEY, { keepAliveSeconds: 1 });
    ready(world, 0).notBefore = 9_000;
    expect(planIdle(world, revision, settings, 5_000)).toEqual({ actions: [], askAgainAt: 9_000 });
  });

  it('freezes nothing on a host that cannot', () => {
    const { world, revision } = worldOf(KEY);
    ready(world, 0);
    expect(planIdle(world, revision, testSettings({ freezeAfterMs: null }), 5_000).actions).toEqual([]);
  });
});
