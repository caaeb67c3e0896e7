/** Waiting in tests: for a condition, never for a time. */
import { setTimeout as sleep } from 'node:timers/promises';

export { sleep };

/**
 * When the time is up, it is looked so many times more. A process that was not given the processor for a second finds that
 * its timers are over before it has read what came meanwhile.
 */
const LAST_PROBES = 5;

/**
 * Calls `probe` until it gives something other than null, undefined or false, and returns that.
 * What it throws counts as "not yet", and is told when the time is up.
 */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T> | T,
  { timeoutMs = 60_000, everyMs = 50 } = {},
): Promise<Exclude<T, null | undefined | false>> {
  const end = performance.now() + timeoutMs;
  let last: unknown;
  for (let late = 0; ;) {
    try {
      const value = await probe();
      if (value !== null && value !== undefined && value !== false) return value as Exclude<T, null | undefined | false>;
      last = value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end && ++late > LAST_PROBES) throw new Error(`waited ${timeoutMs} ms for ${what}`, { cause: last });
    await sleep(everyMs);
  }
}

/** Runs `work` over all items, so many at a time. */
export async function parallel<T, R>(items: readonly T[], width: number, work: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index]!, index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
  return results;
}

export const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
