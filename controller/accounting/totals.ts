/** Sums of what is used, and how they are shown. */
import { z } from 'zod';
import { DURATION_CLASSES, durationBoundMs, type CallCounts, type ResourceStats, type UsageStats } from '#contract/stats.ts';

const sum = z.number().min(0).default(0);

/** All of it only ever rises. */
export const Totals = z.object({
  cpuUs: sum,
  reservedMibMs: sum,
  usedMibMs: sum,
  peakBytes: sum,
  invocations: sum,
  errors: sum,
  rejected: sum,
  pooled: sum,
  full: sum,
  started: sum,
  durationMs: sum,
  /** By class; classes at the end that are empty are left out. */
  durations: z.array(z.number()).max(DURATION_CLASSES).default([]),
});
export type Totals = z.infer<typeof Totals>;

export const zero = (): Totals => Totals.parse({});

export function addCounts(totals: Totals, counts: CallCounts): void {
  for (const field of ['invocations', 'errors', 'rejected', 'pooled', 'full', 'durationMs'] as const) totals[field] += counts[field];
  for (const [index, count] of counts.durations) {
    while (totals.durations.length <= index) totals.durations.push(0);
    totals.durations[index]! += count;
  }
}

/** The sum of both, for what is shown of several functions as one. */
export function plus(a: Totals, b: Totals): Totals {
  const total = {
    ...a,
    durations: Array.from(
      { length: Math.max(a.durations.length, b.durations.length) },
      (_, index) => (a.durations[index] ?? 0) + (b.durations[index] ?? 0),
    ),
  };
  for (const field of Object.keys(total) as (keyof Totals)[]) {
    if (field === 'durations') continue;
    total[field] = field === 'peakBytes' ? Math.max(a.peakBytes, b.peakBytes) : a[field] + b[field];
  }
  return total;
}

/** The duration that a share of the calls did not take longer than, by straight lines within a class; null without calls. */
export function percentileMs(durations: readonly number[], share: number): number | null {
  const all = durations.reduce((total, count) => total + count, 0);
  if (all === 0) return null;
  const wanted = share * all;
  let passed = 0;
  for (const [index, count] of durations.entries()) {
    if (count === 0 || passed + count < wanted) {
      passed += count;
      continue;
    }
    const from = index === 0 ? 0 : durationBoundMs(index - 1);
    const to = durationBoundMs(index);
    // The last class has no end: all that is known is where it begins.
    return Number.isFinite(to) ? from + ((to - from) * (wanted - passed)) / count : from;
  }
  return durationBoundMs(durations.length - 1);
}

const GIB_SECOND = 1_024 * 1_000;
const rounded = (value: number, digits: number): number => Number(value.toFixed(digits));

export const resourceStats = ({ cpuUs, reservedMibMs, usedMibMs }: Totals): ResourceStats => ({
  cpuSeconds: rounded(cpuUs / 1e6, 6),
  memoryReservedGibSeconds: rounded(reservedMibMs / GIB_SECOND, 6),
  memoryUsedGibSeconds: rounded(usedMibMs / GIB_SECOND, 6),
});

export function usageStats(totals: Totals): UsageStats {
  const { durations } = totals;
  const percentile = (share: number) => {
    const ms = percentileMs(durations, share);
    return ms === null ? null : rounded(ms, 2);
  };
  return {
    ...resourceStats(totals),
    memoryPeakBytes: totals.peakBytes,
    invocations: totals.invocations,
    errors: totals.errors,
    rejected: totals.rejected,
    coldStarts: { pooled: totals.pooled, full: totals.full },
    instancesStarted: totals.started,
    duration: {
      sumSeconds: rounded(totals.durationMs / 1_000, 6),
      p50Ms: percentile(0.5),
      p95Ms: percentile(0.95),
      p99Ms: percentile(0.99),
    },
  };
}
