import { expect, it } from 'vitest';
import type { Sample } from './census.ts';
import { seriesOf } from './report.ts';

const MINUTE = 60_000;
const EVERY_MS = 30_000;
const SETTLE_MS = 12 * MINUTE;
/** Of all kinds together, a second: what a soak sends. */
const REQUESTS = 32;

/** Whether the controller's memory is flat that is `mib` of its age in minutes, over a life of so many minutes. */
function isFlat(minutes: number, mib: (age: number) => number): boolean {
  const samples = Array.from({ length: (minutes * MINUTE) / EVERY_MS }, (_, index): Sample => {
    const at = index * EVERY_MS;
    // Noise of half a MiB that is the same each time.
    const anonMib = mib(at / MINUTE) + ((index * 7_919) % 100) / 100 - 0.5;
    const part = { pid: 1, pssMib: anonMib, rssMib: anonMib + 50, anonMib, fds: 40, threads: 10 };
    return { at, parts: { controller: part }, host: {}, files: {}, mib: {}, redis: {}, warmMs: { p50: 1, p99: 2 }, load: 1 };
  });
  const found = seriesOf(samples, SETTLE_MS).find(({ name }) => name === 'controller anon')?.flatness;
  if (!found) throw new Error('the memory of the controller is judged');
  return found.flat;
}

/** By bytes that each request leaves, since the process began. */
const leak = (bytes: number) => (age: number) => (age * 60 * REQUESTS * bytes) / 1_048_576;
/** 25 MiB that fill with a time constant of so many minutes. */
const filling = (minutes: number) => (age: number) => 25 * (1 - Math.exp(-age / minutes));

it.each([80, 97, 120])('memory that fills to a limit is flat, and a leak beside it is not, in a life of %d minutes', (minutes) => {
  expect(isFlat(minutes, (age) => 50 + filling(25)(age))).toBe(true);
  for (const bytes of [200, 1_024, 4_096]) {
    expect(isFlat(minutes, (age) => 50 + leak(bytes)(age))).toBe(false);
    expect(isFlat(minutes, (age) => 50 + filling(25)(age) + leak(bytes)(age))).toBe(false);
  }
});

it('a rise that has not become slower is none that ends', () => {
  expect(isFlat(97, (age) => 50 + filling(200)(age) * 2)).toBe(false);
});
