import { describe, expect, it } from 'vitest';
import { Progress } from './progress.ts';

describe('progress of a partition', () => {
  it('goes up to the first that is not done', () => {
    const progress = new Progress(0, 10n);
    for (const offset of [10n, 11n, 14n]) progress.took(offset);
    progress.position = 15n;
    expect(progress.next).toBe(10n);
    expect(progress.finish(11n)).toBe(true);
    expect(progress.next).toBe(10n);
    expect(progress.finish(10n)).toBe(true);
    // 12 and 13 are not there any more: compacted, or records of a transaction.
    expect(progress.next).toBe(14n);
    expect(progress.finish(14n)).toBe(true);
    expect(progress.next).toBe(15n);
  });

  it('knows none that it was not given, and none twice', () => {
    const progress = new Progress(0, 0n);
    progress.took(0n);
    progress.position = 1n;
    expect(progress.finish(5n)).toBe(false);
    expect(progress.finish(0n)).toBe(true);
    expect(progress.finish(0n)).toBe(false);
    expect([progress.next, progress.committed]).toEqual([1n, 0n]);
  });
});
