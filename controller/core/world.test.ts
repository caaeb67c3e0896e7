import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addInstance, testRevision, want } from './testing.ts';
import { leasedSlots, World } from './world.ts';

function worldWithOne(slots = 10) {
  const world = new World();
  const revision = testRevision('default/hello@1', {}, slots);
  world.revisions.set(revision.key, revision);
  const instance = addInstance(world, { kind: 'ready', revision: revision.key, idleSince: 0 });
  return { world, revision, instance };
}

describe('World', () => {
  it('gives a part of a lease back as soon as the gateway says so, and grants it on', () => {
    const { world, instance } = worldWithOne(10);
    world.grant(instance, 'l-1', 'g', 10);
    world.revoke('l-1', 4, 1_000);
    world.shrink('l-1', 4, 10);
    expect(world.findLease('l-1')).toMatchObject({ state: 'granted', slots: 4, freeAt: null });
    world.grant(instance, 'l-2', 'h', 6);
    world.revoke('l-1', 0, 2_000);
    world.shrink('l-1', 2, 20);
    expect(world.findLease('l-1')).toMatchObject({ state: 'revoking', slots: 2 });
    world.shrink('l-1', 0, 30);
    world.shrink('l-1', 1, 30);
    expect(world.findLease('l-1')).toBeNull();
    expect(leasedSlots(instance)).toBe(6);
  });

  it('refuses a way that the state machine does not have', () => {
    const { world, instance } = worldWithOne();
    expect(() => world.transition(instance, { kind: 'generic', since: 0 })).toThrow(/no way from ready to generic/);
  });

  it('never specialises an instance twice', () => {
    const world = new World();
    const instance = addInstance(world, { kind: 'generic', since: 0 });
    world.transition(instance, { kind: 'specialising', revision: 'default/a@1', since: 0 });
    expect(() => world.transition(instance, { kind: 'specialising', revision: 'default/b@1', since: 0 })).toThrow();
    expect(world.instancesOf('default/a@1').has(instance)).toBe(true);
    expect(world.instancesOf('default/b@1').size).toBe(0);
  });

  it('counts revoking shares until they are released', () => {
    const { world, instance } = worldWithOne(10);
    world.grant(instance, 'l-1', 'g', 10);
    world.revoke('l-1', 4, 1_000);
    expect(leasedSlots(instance)).toBe(10);
    expect(world.grantedSlots('default/hello@1', 'g')).toBe(4);
    expect(() => world.grant(instance, 'l-2', 'h', 1)).toThrow(/not 1 slots free/);
    world.expireRevoked(1_000);
    expect(leasedSlots(instance)).toBe(4);
    expect(world.findLease('l-1')?.state).toBe('granted');
  });

  it('frees a revoked lease when the gateway says so before the deadline, and only once', () => {
    const { world, instance } = worldWithOne(10);
    world.grant(instance, 'l-1', 'g', 10);
    world.revoke('l-1', 0, 1_000);
    expect(world.release('l-1', 5)).toBe(instance);
    expect(world.release('l-1', 6)).toBeNull();
    expect(world.expireRevoked(2_000)).toEqual([]);
    expect(instance.state).toMatchObject({ kind: 'ready', idleSince: 5 });
  });

  it('frees all that a lost gateway held, and forgets its demand', () => {
    const { world, revision, instance } = worldWithOne(10);
    world.grant(instance, 'l-1', 'g', 3);
    world.grant(instance, 'l-2', 'h', 3);
    want(world, revision, 'g', 5, 3);
    expect(world.dropGateway('g', 7)).toEqual([instance]);
    expect(leasedSlots(instance)).toBe(3);
    expect(revision.demand.has('g')).toBe(false);
    world.dropGateway('h', 8);
    expect(instance.state).toMatchObject({ idleSince: 8 });
  });

  it('does not count a grant that the gateway has not seen yet as unmet', () => {
    const { world, revision, instance } = worldWithOne(10);
    want(world, revision, 'g', 3);
    expect(world.unmet(revision, 'g')).toBe(3);
    world.grant(instance, 'l-1', 'g', 10);
    expect(world.unmet(revision, 'g')).toBe(0);
    // Sent before the grant arrived: still nothing to do.
    want(world, revision, 'g', 4);
    expect(world.unmet(revision, 'g')).toBe(0);
    // All ten in use and four waiting.
    want(world, revision, 'g', 4, 10);
    expect(world.unmet(revision, 'g')).toBe(4);
  });

  it('keeps since when somebody waits over later words about the same wait', () => {
    const { world, revision } = worldWithOne();
    want(world, revision, 'g', 1, 0, 10);
    want(world, revision, 'g', 2, 0, 20);
    expect(revision.demand.get('g')?.since).toBe(10);
    want(world, revision, 'g', 0, 2, 30);
    want(world, revision, 'g', 1, 2, 40);
    expect(revision.demand.get('g')?.since).toBe(40);
  });

  it('never lets the shares of an instance exceed its capacity, whatever happens', () => {
    const step = fc.record({
      what: fc.constantFrom('grant', 'release', 'revoke', 'expire', 'drop'),
      lease: fc.integer({ min: 0, max: 5 }),
      gateway: fc.constantFrom('g', 'h'),
      slots: fc.integer({ min: 1, max: 12 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { world, instance } = worldWithOne(10);
        let now = 0;
        for (const { what, lease, gateway, slots } of steps) {
          now += 100;
          const id = `l-${lease}`;
          if (what === 'grant' && !world.findLease(id) && slots <= world.freeSlots(instance)) world.grant(instance, id, gateway, slots);
          if (what === 'release') world.release(id, now);
          if (what === 'revoke') world.revoke(id, slots - 1, now + 250);
          if (what === 'expire') world.expireRevoked(now);
          if (what === 'drop') world.dropGateway(gateway, now);
          expect(leasedSlots(instance)).toBeLessThanOrEqual(10);
          const idle = instance.state.kind === 'ready' && instance.state.idleSince !== null;
          expect(idle).toBe(instance.leases.size === 0);
          expect(world.leaseIndex.size).toBe(instance.leases.size);
        }
      }),
    );
  });
});
