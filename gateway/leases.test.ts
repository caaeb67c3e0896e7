/** The lease table in virtual time: sections of docs/leases.md in brackets. */
import * as fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { problem } from '#contract/errors.ts';
import type { VirtualClock } from '#kit/clock.ts';
import { Asker, type Connection, POOLED, REVISION, setUp, WARM } from './lease-testing.ts';
import { FULL_PAUSE_MS, type LeaseTable, SWEEP_MS, UNUSED_RELEASE_MS } from './leases.ts';

describe('waiting and being served', () => {
  it('[5] tells the first waiter at once, the others within 5 ms, and the end of it', () => {
    const { clock, ask, of, table } = setUp();
    const first = ask();
    expect(of('want')).toMatchObject([{ revision: REVISION, waiting: 1, inFlight: 0, oldestDeadline: clock.wall() + 30_000 }]);
    for (let i = 0; i < 5; i++) ask();
    expect(of('want')).toHaveLength(1);
    clock.advance(5);
    expect(of('want').map((want) => want.waiting)).toEqual([1, 6]);
    table.cancel(first, REVISION);
    table.cancel(first, REVISION);
    clock.advance(5);
    expect(of('want').at(-1)?.waiting).toBe(5);
  });

  it('[6] serves in the order of asking, as many as there are slots, and says how the instance came to be', () => {
    const { ask, grant, table } = setUp();
    const [a, b, c] = [ask(), ask(), ask()];
    grant('l1', 'i1', 2, POOLED);
    expect([a.lease?.id, b.lease?.id, c.lease]).toEqual(['l1', 'l1', null]);
    expect(a.start).toEqual(POOLED);
    table.free(a.lease!);
    expect(c.lease?.id).toBe('l1');
    expect(c.start).toBeNull();
    expect(ask().got).toBe('waiting');
  });

  it('packs: the lease used last serves first, and one that is not needed is released', () => {
    const { ask, clock, grant, of, table } = setUp();
    grant('l1', 'i1', 2);
    grant('l2', 'i2', 2);
    for (let i = 0; i < 20; i++) {
      const { lease } = ask();
      clock.advance(100);
      table.free(lease!);
    }
    expect(of('release')).toEqual([{ type: 'release', lease: 'l1' }]);
    expect(table.held().map((lease) => lease.lease)).toEqual(['l2']);
  });

  it('refuses what is over the limits: 503 while slots may come, 429 when they are all in use', () => {
    const { ask, grant } = setUp({ maxWaiting: 12, maxWaitingPerFunction: 11 });
    grant('l1', 'i1', 9);
    for (let i = 0; i < 9 + 11; i++) expect(ask().got).not.toBe('queue-full');
    expect(ask().got).toBe('queue-full');
    grant('l2', 'i2', 1);
    ask();
    expect(ask().got).toBe('too-many-requests');
    expect(ask(true).got).toBe('waiting');
    expect(ask().got).toBe('queue-full');
  });

  it('one that was refused elsewhere comes first', () => {
    const { ask, grant } = setUp();
    const [a, again] = [ask(), ask(true)];
    grant('l1', 'i1');
    expect([a.lease, again.lease?.id]).toEqual([null, 'l1']);
  });
});

describe('giving back', () => {
  it('[6] an unused lease goes after a second, not sooner, and not while someone waits or the link is down', () => {
    const { clock, connections, grant, of, state, table } = setUp();
    grant('l1', 'i1');
    clock.advance(UNUSED_RELEASE_MS - SWEEP_MS);
    expect(of('release')).toEqual([]);
    state.up = false;
    table.linkDown();
    clock.advance(60_000);
    expect(table.size).toBe(1);
    state.up = true;
    table.linkUp(['l1']);
    clock.advance(2 * SWEEP_MS);
    expect(of('release')).toEqual([{ type: 'release', lease: 'l1' }]);
    expect(connections.get('i1')![0]!.closed).toBe(1);
  });

  it('[8] revoke: no new use, released when drained; unknown and repeated ones are ignored', () => {
    const { ask, connections, grant, of, table } = setUp();
    grant('l1', 'i1', 2);
    const a = ask();
    table.revoke('l1', 0, 30_000);
    table.revoke('nobody', 0, 30_000);
    expect(ask().got).toBe('waiting');
    expect(of('release')).toEqual([]);
    table.free(a.lease!);
    table.revoke('l1', 0, 30_000);
    expect(of('release')).toHaveLength(1);
    expect(connections.get('i1')![0]!.closed).toBe(1);
  });

  it('[8] partial revoke keeps what it says', () => {
    const { ask, grant, of, table } = setUp();
    grant('l1', 'i1', 3);
    const [a, b] = [ask(), ask()];
    table.revoke('l1', 1, 30_000);
    expect(of('release')).toEqual([]);
    table.free(a.lease!);
    expect(of('release')).toEqual([{ type: 'release', lease: 'l1', slots: 1 }]);
    expect(ask().got).toBe('waiting');
    table.free(b.lease!);
    expect(table.held()).toMatchObject([{ lease: 'l1', slots: 1 }]);
    expect(of('release')).toHaveLength(1);
  });

  it('says goodbye with everything: idle ones now, the others when drained', () => {
    const { ask, grant, of, table } = setUp();
    grant('l1', 'i1');
    grant('l2', 'i2');
    const a = ask();
    table.releaseAll();
    expect(of('release')).toHaveLength(1);
    table.free(a.lease!);
    expect(of('release')).toHaveLength(2);
    expect(table.size).toBe(0);
  });

  it('[2] full: left alone for a moment, then used again', () => {
    const { ask, clock, grant, table } = setUp();
    grant('l1', 'i1', 2);
    const { lease } = ask();
    table.refused(lease!, 'full');
    table.free(lease!);
    const again = ask(true);
    expect(again.got).toBe('waiting');
    clock.advance(FULL_PAUSE_MS);
    expect(again.lease?.id).toBe('l1');
  });
});

describe('the link', () => {
  it('[3] what is not kept is dropped: no new use, no release; what is in flight ends', () => {
    const { ask, connections, grant, of, table } = setUp();
    grant('l1', 'i1');
    const a = ask();
    grant('l2', 'i2');
    table.linkDown();
    expect(table.held().map((lease) => lease.lease)).toEqual(['l1', 'l2']);
    table.linkUp(['l2']);
    expect(connections.get('i1')![0]!.closed).toBe(0);
    table.free(a.lease!);
    expect(connections.get('i1')![0]!.closed).toBe(1);
    expect(of('release')).toEqual([]);
    expect(ask().lease?.id).toBe('l2');
  });

  it('[5] demand that came while it was down is told after welcome', () => {
    const { ask, of, table, state } = setUp({ linked: false });
    ask();
    ask();
    expect(of('want')).toEqual([]);
    state.up = true;
    table.linkUp([]);
    expect(of('want')).toMatchObject([{ waiting: 2 }]);
  });

  it('[13] [8] what was revoked is released only when somebody hears it', () => {
    const { ask, grant, of, state, table } = setUp();
    grant('l1', 'i1');
    const a = ask();
    table.revoke('l1', 0, 30_000);
    state.up = false;
    table.linkDown();
    table.free(a.lease!);
    expect(table.held()).toHaveLength(1);
    state.up = true;
    table.linkUp(['l1']);
    expect(of('release')).toEqual([{ type: 'release', lease: 'l1' }]);
  });

  it('fail reaches those who wait, once; [15] reroute too', () => {
    const { ask, table } = setUp();
    const a = ask();
    table.fail(REVISION, problem('no-capacity', 'none'), 1);
    expect([a.failed?.code, table.waiting]).toEqual(['no-capacity', 0]);
    const b = ask();
    table.reroute(REVISION);
    expect([a.rerouted, b.rerouted, b.failed, table.waiting]).toEqual([0, 1, null, 0]);
  });

  it('[5] more in flight is told at the next look, fewer when it has been so for a while, with the most there was', () => {
    const { ask, clock, grant, of, table } = setUp();
    grant('l1', 'i1', 50);
    const busy = (count: number): void => {
      for (const asker of Array.from({ length: count }, () => ask())) table.free(asker.lease!, 4);
      clock.advance(SWEEP_MS);
    };
    const told = () => of('want').map(({ inFlight }) => inFlight);
    busy(5);
    busy(9);
    expect(told()).toEqual([5, 9]);
    busy(2);
    busy(9);
    busy(3);
    busy(4);
    expect(told()).toEqual([5, 9]);
    busy(2);
    expect(told()).toEqual([5, 9, 4]);
  });

  it('load is reported four times a second at most, its peak, and forgotten when it is over', () => {
    const { ask, clock, grant, of, table } = setUp();
    grant('l1', 'i1', 50);
    for (let i = 0; i < 1_000; i++) {
      const [a, b] = [ask(), ask()];
      table.free(a.lease!, 4);
      table.free(b.lease!, 4);
      clock.advance(1);
    }
    expect(of('want').length).toBeLessThanOrEqual(4);
    expect(of('want')[0]).toMatchObject({ waiting: 0, inFlight: 2, serviceMs: 4 });
    clock.advance(5_000);
    expect(of('want').at(-1)).toMatchObject({ waiting: 0, inFlight: 0 });
    const after = of('want').length;
    clock.advance(60_000);
    expect(of('want')).toHaveLength(after);
  });
});

describe('many functions', () => {
  /** A thousand functions with a lease each, all asked again and again, so many ms apart. */
  const steady = (everyMs: number) => {
    const { clock, of, sent, table } = setUp({ maxWaiting: 2_000 });
    const revisions = Array.from({ length: 1_000 }, (_, n) => `default/f${n}@1`);
    for (const [n, revision] of revisions.entries()) {
      table.grant({ lease: `l${n}`, instance: `i${n}`, revision, address: { kind: 'unix', path: '/s' }, slots: 10 }, WARM);
    }
    const ask = (n: number): void => {
      const lease = table.acquire(new Asker(), { revision: revisions[n]!, maxSlots: 10 });
      if (typeof lease === 'string') throw new Error(lease);
      clock.advance(everyMs / revisions.length);
      table.free(lease, 1);
    };
    const round = (): void => revisions.forEach((_, n) => ask(n));
    return { round, clock, of, sent, table };
  };

  it.each([90, 240, 333, 700])('that are called every %i ms say of it once, and nothing more for as long as it goes on', (everyMs) => {
    const { round, of, sent, table } = steady(everyMs);
    for (let ms = 0; ms <= SWEEP_MS * 2; ms += everyMs) round();
    round();
    expect(of('want')).toHaveLength(1_000);
    sent.length = 0;
    for (let ms = 0; ms < 10_000; ms += everyMs) round();
    expect([sent, table.size]).toEqual([[], 1_000]);
  });

  it('that are called no more cost no look', () => {
    const { round, clock, of, sent, table } = steady(90);
    for (let n = 0; n < 10; n++) round();
    clock.advance(10_000);
    expect([table.size, of('release').length, of('want').length]).toEqual([0, 1_000, 2_000]);
    // Of each: that nothing is in flight, and only then that the lease is given back, or it would be granted again.
    const last = sent.findLastIndex((message) => message.type === 'want' && message.revision === 'default/f7@1');
    expect(sent[last]).toMatchObject({ inFlight: 0, waiting: 0 });
    expect(sent.findIndex((message) => message.type === 'release' && message.lease === 'l7')).toBeGreaterThan(last);
    const timers = vi.spyOn(clock, 'after');
    clock.advance(60_000);
    expect(timers).not.toHaveBeenCalled();
  });
});

describe('any sequence of events', () => {
  const event = fc.oneof(
    fc.record({ kind: fc.constant('ask' as const), again: fc.boolean() }),
    fc.record({
      kind: fc.constantFrom(
        'free',
        'cancel',
        'revoke',
        'gone',
        'suspect',
        'clear',
        'full',
        'draining',
        'reconnect',
        'fail',
        'advance',
      ) as fc.Arbitrary<'free'>,
      pick: fc.nat(20),
    }),
    fc.record({ kind: fc.constant('grant' as const), instance: fc.nat(4), slots: fc.integer({ min: 1, max: 3 }) }),
  );

  it('keeps a lease within its slots, serves every waiter at most once, and leaks neither slot nor connection', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 120 }), (events) => {
        const { ask, clock, connections, grant, table } = setUp({ maxWaiting: 1_000, maxWaitingPerFunction: 1_000 });
        const askers: Asker[] = [];
        const running = () => askers.filter((asker) => asker.lease !== null);
        let grants = 0;
        for (const step of events) {
          if (step.kind === 'ask') askers.push(ask(step.again));
          else if (step.kind === 'grant') grant(`l${grants++}`, `i${step.instance}`, step.slots);
          else apply(step.kind, step.pick, { table, clock, running, askers, grants });
          for (const { lease } of running()) expect(lease!.inFlight).toBeGreaterThan(0);
          const byLease = Map.groupBy(running(), (asker) => asker.lease!);
          for (const [lease, users] of byLease) expect(lease.inFlight).toBe(users.length);
        }
        for (const asker of running()) release(table, asker);
        for (const asker of askers) table.cancel(asker, REVISION);
        for (const id of ['i0', 'i1', 'i2', 'i3', 'i4']) table.clear(id);
        for (const asker of running()) release(table, asker);
        clock.advance(20_000);
        expect(table.size).toBe(0);
        expect(table.waiting).toBe(0);
        for (const all of connections.values()) for (const connection of all) expect(connection.closed).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});

function release(table: LeaseTable<Connection>, asker: Asker): void {
  const lease = asker.lease!;
  asker.lease = null;
  table.free(lease, 1);
}

interface World {
  table: LeaseTable<Connection>;
  clock: VirtualClock;
  running: () => Asker[];
  askers: Asker[];
  grants: number;
}

function apply(kind: string, pick: number, { table, clock, running, askers, grants }: World): void {
  const users = running();
  const user = users[pick % Math.max(1, users.length)];
  switch (kind) {
    case 'free':
      if (user) release(table, user);
      break;
    case 'full':
    case 'draining':
      if (user) {
        table.refused(user.lease!, kind);
        release(table, user);
      }
      break;
    case 'suspect':
      if (user) table.instances.suspect(user.lease!.instance, 'x');
      break;
    case 'cancel':
      if (askers.length > 0) table.cancel(askers[pick % askers.length]!, REVISION);
      break;
    case 'revoke':
      table.revoke(`l${pick % Math.max(1, grants)}`, pick % 3, 30_000);
      break;
    case 'gone':
      table.gone(`i${pick % 5}`, { cause: 'exit', detail: '' });
      break;
    case 'clear':
      table.clear(`i${pick % 5}`);
      break;
    case 'reconnect':
      table.linkDown();
      clock.advance(10);
      table.linkUp(
        table
          .held()
          .map((lease) => lease.lease)
          .filter((_, index) => index % 2 === pick % 2),
      );
      break;
    case 'fail':
      table.fail(REVISION, problem('no-capacity', 'none'), 1);
      break;
    default:
      clock.advance(pick * 50);
  }
}
