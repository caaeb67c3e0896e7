import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { type StreamEnd, type StreamLease, Streams } from './streams.ts';

interface Lease extends StreamLease {
  slots: number;
  inFlight: number;
  state: 'held' | 'revoking' | 'void';
}

function setup({ slots = 10, count = 0 } = {}) {
  const clock = new VirtualClock();
  const streams = new Streams(clock);
  const lease: Lease = { slots, inFlight: 0, state: 'held' };
  const ended: [number, StreamEnd][] = [];
  const add = (name: number) => {
    lease.inFlight++;
    const stream = { end: (why: StreamEnd) => ended.push([name, why]) };
    streams.add(lease, stream);
    return stream;
  };
  const made = Array.from({ length: count }, (_, i) => add(i));
  return { clock, streams, lease, ended, add, made, names: () => ended.map(([name]) => name) };
}

describe('streams of a lease', () => {
  it('go on until the deadline of its revoke, and end then', () => {
    const { clock, streams, lease, ended } = setup({ count: 2 });
    lease.state = 'revoking';
    streams.revoked(lease, 1_000);
    clock.advance(999);
    expect(ended).toEqual([]);
    clock.advance(1);
    expect(ended).toEqual([[0, 'going-away'], [1, 'going-away']]); // prettier-ignore
  });

  it('of a partial revoke as many end as are too many, those first that came first', () => {
    const { clock, streams, lease, names, made } = setup({ count: 5 });
    lease.slots = 3;
    streams.revoked(lease, 100);
    // One ends by itself meanwhile.
    streams.remove(lease, made[0]!);
    lease.inFlight--;
    clock.advance(100);
    expect(names()).toEqual([1]);
  });

  it('one that begins after the deadline, on a slot taken before, ends at once', () => {
    const { clock, streams, lease, names, add } = setup();
    lease.inFlight = 1;
    lease.state = 'revoking';
    streams.revoked(lease, 100);
    clock.advance(100);
    lease.inFlight = 0;
    add(7);
    expect(names()).toEqual([7]);
  });

  it('at the end of the process all of them end, some at a time, and whatever begins later too', () => {
    const { clock, streams, names, add } = setup({ slots: 1_000, count: 300 });
    streams.endAll();
    expect(names().length).toBeLessThan(300);
    clock.advance(1_000);
    expect(names()).toEqual(Array.from({ length: 300 }, (_, i) => i));
    add(300);
    expect(names().at(-1)).toBe(300);
  });

  it('those that are over are forgotten', () => {
    const { streams, lease, made } = setup({ count: 3 });
    for (const stream of made) streams.remove(lease, stream);
    expect(streams.size).toBe(0);
    streams.remove(lease, made[0]!);
    expect(streams.size).toBe(0);
  });
});
