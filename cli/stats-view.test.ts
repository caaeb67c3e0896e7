import { expect, it } from 'vitest';
import type { FunctionStats, UsageStats } from '#contract/stats.ts';
import { renderFunctionStats, renderStats } from './stats-view.ts';

const used: UsageStats = {
  cpuSeconds: 12.345678,
  memoryReservedGibSeconds: 96,
  memoryUsedGibSeconds: 3.125,
  memoryPeakBytes: 61_865_984,
  invocations: 1_204,
  errors: 3,
  rejected: 1,
  coldStarts: { pooled: 7, full: 1 },
  instancesStarted: 9,
  duration: { sumSeconds: 14.2, p50Ms: 3.1, p95Ms: 40.25, p99Ms: 250 },
};
const never: UsageStats = {
  ...used,
  cpuSeconds: 0,
  memoryReservedGibSeconds: 20_000,
  invocations: 0,
  duration: { sumSeconds: 0, p50Ms: null, p95Ms: null, p99Ms: null },
};
const hello: FunctionStats = {
  namespace: 'default',
  name: 'hello',
  since: 1,
  deletedAt: null,
  ...used,
  revisions: [
    { number: 12, ...never },
    { number: 7, ...used },
  ],
};

it('a line for each function, deleted ones too, those whose first deployment was refused, and the pool’s', () => {
  const gone = { ...hello, namespace: 'shop', name: 'cart', deletedAt: 2 };
  const refused = { ...gone, name: 'till', ...never };
  const pool = { cpuSeconds: 7_201, memoryReservedGibSeconds: 8_123, memoryUsedGibSeconds: 261 };
  expect(renderStats({ source: 'cgroup', functions: [hello, gone, refused], pool })).toBe(
    `NAMESPACE  NAME              CALLS  ERRORS  REJECTED  COLD     CPU    RESERVED        USED     P50     P99
default    hello              1204       3         1     8  12.3 s  96.0 GiB·s  3.13 GiB·s  3.1 ms  250 ms
shop       cart (deleted)     1204       3         1     8  12.3 s  96.0 GiB·s  3.13 GiB·s  3.1 ms  250 ms
shop       till (not there)      0       3         1     8  0.00 s   5.6 GiB·h  3.13 GiB·s       –       –
           (pool)                                            2.0 h   2.3 GiB·h   261 GiB·s
`,
  );
});

it('says of one function that it was deleted', () => {
  expect(renderFunctionStats({ ...hello, deletedAt: 2, revisions: [] })).toMatch(/^REVISION .*\nall \(deleted\) +1204 .*\n$/);
});

it('a line for each revision of one function, and one for all there were', () => {
  expect(renderFunctionStats(hello)).toBe(
    `REVISION  CALLS  ERRORS  REJECTED  COLD     CPU    RESERVED        USED     P50     P99
12            0       3         1     8  0.00 s   5.6 GiB·h  3.13 GiB·s       –       –
7          1204       3         1     8  12.3 s  96.0 GiB·s  3.13 GiB·s  3.1 ms  250 ms
all        1204       3         1     8  12.3 s  96.0 GiB·s  3.13 GiB·s  3.1 ms  250 ms
`,
  );
});
