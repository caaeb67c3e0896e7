/** Small statistics: medians and percentiles, with how far they spread over rounds. */

export interface Summary {
  samples: number;
  min: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

/** Nearest-rank percentile of sorted numbers. NaN without any. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN;
}

export function summarise(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => percentile(sorted, share);
  return { samples: sorted.length, min: at(0), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

export const median = (values: readonly number[]): number => summarise(values).p50;

/** Half the distance between the quartiles over the median: 0.05 is "± 5 %". */
export function spread(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (percentile(sorted, 0.75) - percentile(sorted, 0.25)) / 2 / percentile(sorted, 0.5);
}
