import { describe, expect, it } from 'vitest';
import { median, spread, summarise } from './stats.ts';

describe('statistics of the bench', () => {
  it('are nearest-rank percentiles', () => {
    const values = Array.from({ length: 100 }, (_, index) => 100 - index);
    expect(summarise(values)).toEqual({ samples: 100, min: 1, p50: 50, p90: 90, p99: 99, max: 100 });
    expect(summarise([7])).toMatchObject({ min: 7, p50: 7, p99: 7, max: 7 });
    expect(median([3, 1, 2])).toBe(2);
  });

  it('the spread is half the distance of the quartiles', () => {
    expect(spread([10, 10, 10, 10])).toBe(0);
    expect(spread([8, 9, 10, 11, 12])).toBeCloseTo(0.1);
  });
});
