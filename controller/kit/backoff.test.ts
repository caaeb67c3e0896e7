import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backoffMs } from './backoff.ts';

describe('backoffMs', () => {
  it('doubles from the base up to the cap', () => {
    const delays = [1, 2, 3, 4, 5, 6].map((attempt) => backoffMs(attempt, { baseMs: 100, maxMs: 1_000, jitter: 0 }));
    expect(delays).toEqual([100, 200, 400, 800, 1_000, 1_000]);
  });

  it('takes jitter off, never on', () => {
    expect(backoffMs(1, { baseMs: 100, maxMs: 1_000, jitter: 1, random: () => 0.25 })).toBe(75);
    expect(backoffMs(1, { baseMs: 100, maxMs: 1_000, random: () => 1 })).toBe(50);
  });

  it('is finite and within its bounds for any attempt', () => {
    fc.assert(
      fc.property(fc.integer({ min: -5, max: 1_000_000 }), fc.double({ min: 0, max: 1, noNaN: true }), (attempt, jitter) => {
        const delay = backoffMs(attempt, { baseMs: 10, maxMs: 30_000, jitter });
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(30_000);
      }),
    );
  });
});
