import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { LruMap } from './lru.ts';
import { shareOf, TokenBuckets } from './rate.ts';

describe('TokenBuckets', () => {
  it('give a burst, then so many a second, and say how long the next one takes', () => {
    const clock = new VirtualClock();
    const buckets = new TokenBuckets(clock, 10);
    const rate = { perSecond: 2, burst: 3 };
    expect([1, 2, 3].map(() => buckets.take('a', rate))).toEqual([0, 0, 0]);
    expect(buckets.take('a', rate)).toBe(0.5);
    clock.advance(400);
    expect(buckets.take('a', rate)).toBeCloseTo(0.1);
    clock.advance(100);
    expect(buckets.take('a', rate)).toBe(0);
    expect(buckets.take('b', rate)).toBe(0);
    clock.advance(3_600_000);
    // Not more than the burst, however long nobody came.
    expect([1, 2, 3, 4].map(() => buckets.take('a', rate) > 0)).toEqual([false, false, false, true]);
  });

  it('over an hour let through what the rate says', () => {
    const clock = new VirtualClock();
    const buckets = new TokenBuckets(clock, 10);
    let passed = 0;
    for (let ms = 0; ms < 3_600_000; ms += 100) {
      if (buckets.take('a', { perSecond: 0.5, burst: 1 }) === 0) passed++;
      clock.advance(100);
    }
    expect(passed).toBe(1_800);
  });

  it('whose limit was lowered hold no more than the new burst', () => {
    const clock = new VirtualClock();
    const buckets = new TokenBuckets(clock, 10);
    expect(buckets.take('a', { perSecond: 1_000, burst: 1_000 })).toBe(0);
    expect([1, 2].map(() => buckets.take('a', { perSecond: 1, burst: 1 }))).toEqual([0, 1]);
  });

  it('that may give nothing say to come back much later', () => {
    expect(new TokenBuckets(new VirtualClock(), 10).take('a', { perSecond: 0, burst: 0 })).toBe(3_600);
  });

  it('are bounded: a flood of callers makes the ones before it forgotten, not the memory full', () => {
    const clock = new VirtualClock();
    const buckets = new TokenBuckets(clock, 100);
    const rate = { perSecond: 1, burst: 1 };
    for (let caller = 0; caller < 10_000; caller++) expect(buckets.take(`c${caller}`, rate)).toBe(0);
    expect(buckets.size).toBe(100);
    expect(buckets.take('c9999', rate)).toBeGreaterThan(0);
  });

  it.each([
    [10, 20, 4, { perSecond: 2.5, burst: 5 }],
    [10, 3, 4, { perSecond: 2.5, burst: 1 }],
    [10, 20, 1, { perSecond: 10, burst: 20 }],
  ])('%d/s with a burst of %d over %d gateways', (perSecond, burst, gateways, share) => {
    expect(shareOf({ perSecond, burst }, gateways)).toEqual(share);
  });
});

describe('LruMap', () => {
  it('lets go of what was not asked for longest', () => {
    const map = new LruMap<string, number>(2);
    map.set('a', 1);
    map.set('b', 2);
    expect(map.get('a')).toBe(1);
    map.set('c', 3);
    expect([map.get('a'), map.get('b'), map.get('c'), map.size]).toEqual([1, undefined, 3, 2]);
    map.delete('a');
    expect(map.size).toBe(1);
  });
});
