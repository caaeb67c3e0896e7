import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ms } from './timing.ts';

it('a time is written as the number that it is, to a hundredth', () => {
  const written = (value: number) => String(Math.round(value * 100) / 100);
  const times = fc.oneof(
    fc.double({ min: -10, max: 100, noNaN: true }),
    fc.double({ noNaN: true }),
    fc.integer().map((n) => n / 100),
  );
  fc.assert(
    fc.property(times, (value) => {
      expect(ms(value)).toBe(written(value));
    }),
  );
  for (const value of [0, -0, 0.004, 0.005, 0.05, 0.5, 1, 1.2, 1.25, 10.01, 60_000, 21_474_836.47, 21_474_836.48, 1e21])
    expect(ms(value)).toBe(written(value));
});
