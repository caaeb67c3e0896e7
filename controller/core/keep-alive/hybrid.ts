/**
 * The hybrid histogram policy as it was published: Shahrad et al., "Serverless in the Wild", USENIX ATC 2020, section 4.2. A yardstick
 * for the platform's own (adaptive.ts), which does better.
 */
import { BIN_MS, BINS, type IdleHistory } from './history.ts';
import type { KeepAlivePolicy, Stay } from './policy.ts';

/** The histogram stands for the function if the counts of its bins vary at least so much (standard deviation ÷ mean). */
const REPRESENTATIVE = 2;
/** An instance is there from 0.9 × the 5th percentile on, until 1.1 × the 99th. */
const HEAD = { percentile: 0.05, margin: 0.9 };
const TAIL = { percentile: 0.99, margin: 1.1 };
/** More of the idle times than this lie beyond the range: it is a forecast that counts. */
const MOSTLY = 0.5;
/** The paper forecasts with ARIMA; this is the mean of the last idle times, and so much of it before and after. */
const FORECAST = { from: 0.85, until: 1.15 };

/** `rangeMinutes`: 1 to BINS; the paper's is 240. */
export function hybrid(rangeMinutes: number = BINS): KeepAlivePolicy {
  const whole: Stay = { stayMs: rangeMinutes * BIN_MS, prewarm: null };
  return (history) => {
    const within = inRange(history, rangeMinutes);
    const beyond = history.beyond + (inRange(history, BINS) - within);
    if (beyond > (within + beyond) * MOSTLY) return forecast(history.recent);
    if (within === 0 || variation(history, within, rangeMinutes) < REPRESENTATIVE) return whole;
    return between(
      HEAD.margin * percentile(history, within, HEAD.percentile),
      TAIL.margin * (percentile(history, within, TAIL.percentile) + BIN_MS),
    );
  };
}

/** Nothing is unloaded where the head is 0. */
const between = (fromMs: number, untilMs: number): Stay =>
  fromMs === 0 ? { stayMs: untilMs, prewarm: null } : { stayMs: 0, prewarm: { fromMs, untilMs } };

function forecast(recent: readonly number[]): Stay {
  const mean = recent.reduce((sum, idleMs) => sum + idleMs, 0) / recent.length;
  return between(mean * FORECAST.from, mean * FORECAST.until);
}

function inRange({ bins }: IdleHistory, range: number): number {
  let total = 0;
  for (let bin = 0; bin < range; bin += 1) total += bins[bin]!;
  return total;
}

function variation({ bins }: IdleHistory, total: number, range: number): number {
  const mean = total / range;
  let squares = 0;
  for (let bin = 0; bin < range; bin += 1) squares += (bins[bin]! - mean) ** 2;
  return Math.sqrt(squares / range) / mean;
}

/** Where the bin begins in which so much of all is reached, ms. */
function percentile({ bins }: IdleHistory, total: number, part: number): number {
  let sum = 0;
  let bin = 0;
  while (bin < BINS && (sum += bins[bin]!) < total * part) bin += 1;
  return bin * BIN_MS;
}
