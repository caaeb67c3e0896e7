/**
 * Totals as they are in the store, and what metrics show: those and no newer ones, since a counter must not fall, not even over a
 * crash.
 */
import type { UsageStats } from '#contract/stats.ts';
import { MAX_SERIES, OTHER } from '#kit/telemetry-metrics.ts';
import { plus, usageStats, zero, type Totals } from './totals.ts';

export class WrittenTotals {
  readonly #totals = new Map<string, Totals>();
  /** Functions that have series of their own in metrics, and those that share one. */
  readonly #series = new Map<string, boolean>();

  /** An account is in the store with these; undefined: it is in it no more. */
  set(key: string, totals: Totals | undefined): void {
    if (totals === undefined) this.#totals.delete(key);
    else this.#totals.set(key, totals);
  }

  /** Its function was deleted long ago: another may have a series of its own instead. */
  forgetSeries(key: string): void {
    this.#series.delete(key);
  }

  /** By function, for as many as a metric may have series; what is beyond is `other`. `apart`: key of an account that is no function's. */
  metrics(apart: string): { namespace: string; function: string; stats: UsageStats }[] {
    const points: { namespace: string; function: string; stats: UsageStats }[] = [];
    let others: Totals | null = null;
    for (const [key, totals] of this.#totals) {
      if (key === apart) continue;
      // For as long as the process lives: a series that changed its place would fall.
      const own = this.#series.get(key) ?? this.#series.size < MAX_SERIES;
      this.#series.set(key, own);
      if (!own) others = plus(others ?? zero(), totals);
      else points.push({ ...labelsOf(key), stats: usageStats(totals) });
    }
    return others === null ? points : [...points, { namespace: OTHER, function: OTHER, stats: usageStats(others) }];
  }
}

function labelsOf(key: string): { namespace: string; function: string } {
  const slash = key.indexOf('/');
  return { namespace: key.slice(0, slash), function: key.slice(slash + 1) };
}
