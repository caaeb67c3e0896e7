import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { range } from '../../test/helpers/wait.ts';
import { DueTimes } from './due-times.ts';

describe('due times', () => {
  it('come in their order, whatever the order in which they were added', () => {
    const clock = new VirtualClock();
    const from = clock.wall();
    const seen: { lane: string; at: number }[] = [];
    const times = new DueTimes(clock, (lane) => seen.push({ lane, at: clock.wall() - from }));
    const delays = range(500).map((n) => (n * 7_919) % 1_000);
    for (const delay of delays) times.add(from + delay, `lane-${delay}`);
    clock.advance(1_000);
    const wanted = [...new Set(delays)].sort((a, b) => a - b);
    expect(seen).toEqual(wanted.map((delay) => ({ lane: `lane-${delay}`, at: delay })));
  });

  it('days ahead, and after a clock that jumped', () => {
    const clock = new VirtualClock();
    const seen: string[] = [];
    const times = new DueTimes(clock, (lane) => seen.push(lane));
    times.add(clock.wall() + 40 * 86_400_000, 'far');
    clock.advance(120_000);
    expect(seen).toEqual([]);
    clock.jumpWall(40 * 86_400_000);
    clock.advance(60_000);
    expect(seen).toEqual(['far']);
  });

  it('none after the end', () => {
    const clock = new VirtualClock();
    const seen: string[] = [];
    const times = new DueTimes(clock, (lane) => seen.push(lane));
    times.add(clock.wall() + 10, 'lane');
    times.close();
    clock.advance(100);
    expect(seen).toEqual([]);
  });
});
