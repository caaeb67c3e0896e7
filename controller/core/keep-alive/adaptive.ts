/**
 * The platform's own policy: an instance is there in those minutes of an idle time in which it is likely enough to be used. A rule of
 * optimal stopping on the hazard, which is how likely the next use is within a minute, given that none has come before it.
 *
 * Worked: after 30 idle times, 20 of them in the sixth minute and 10 beyond an hour, the hazard is some 0.02 in the first minute (of
 * what is not known yet), 0.65 in the sixth, near nothing after it. With a cold start worth 100 idle minutes, a minute pays from 1/100 on.
 */
import { BIN_MS, BINS, type IdleHistory } from './history.ts';
import type { KeepAlivePolicy, Stay } from './policy.ts';

export interface AdaptiveSettings {
  /** A cold start is worth so many minutes in which an instance is idle: the one price by which all functions share what is wasted. */
  worthMinutes: number;
  /** What it costs to bring an instance up, in idle minutes: that of one which would have to be brought up again. */
  startMinutes: number;
  /** How many idle times count as much as what is assumed of a function that nothing is known of. */
  priorWeight: number;
  /** Of such a one the hazard per minute is shape ÷ (minutes idle + scale): who was away for long stays away for long. */
  priorShape: number;
  priorScale: number;
  /** An idle time of n minutes says as much of those near it: ± so much of it, in falling measure. */
  blur: number;
}

/** Found on one half of the functions of a trace, and judged on the other: docs/keep-alive.md. */
export const ADAPTIVE: AdaptiveSettings = {
  worthMinutes: 100,
  startMinutes: 1,
  priorWeight: 1,
  priorShape: 0.9,
  priorScale: 3,
  blur: 0.05,
};

/** One that is brought up is there a tenth earlier than in the first minute that pays, as in the published policy. */
const EARLY = 0.9;
/** Idle times beyond the histogram are forecast where most are, and they are as regular as this (standard deviation ÷ mean). */
const MOSTLY = 0.5;
const REGULAR = 0.1;
/** ± around the mean of them. */
const FORECAST_MARGIN = 0.05;

export function adaptive(settings: AdaptiveSettings = ADAPTIVE): KeepAlivePolicy {
  return (history) => {
    const gains = gainsOf(history, settings);
    const { stay, from, until } = bestRanges(gains, settings);
    const prewarm = from === null ? forecast(history) : { fromMs: from * EARLY * BIN_MS, untilMs: until * BIN_MS };
    return { stayMs: stay * BIN_MS, prewarm };
  };
}

interface Gains {
  /** Of being loaded in each minute of an idle time, in cold starts. */
  gain: Float64Array;
  /** How likely it is that nobody has come before it. */
  still: Float64Array;
}

function gainsOf(history: IdleHistory, { worthMinutes, priorWeight, priorShape, priorScale, blur }: AdaptiveSettings): Gains {
  const gain = new Float64Array(BINS);
  const still = new Float64Array(BINS);
  const counts = blurred(history.bins, blur);
  let left = history.beyond;
  for (const count of counts) left += count;
  let nobody = 1;
  for (let bin = 0; bin < BINS; bin += 1) {
    const assumed = (priorWeight * priorShape) / (bin + priorScale);
    const hazard = Math.min(1, (counts[bin]! + assumed) / (Math.max(0, left) + priorWeight));
    still[bin] = nobody;
    gain[bin] = nobody * (hazard - 1 / worthMinutes);
    nobody *= 1 - hazard;
    left -= counts[bin]!;
  }
  return { gain, still };
}

/** Each count, spread over its neighbours as a triangle: 1:2:3:2:1 for a width of two. */
function blurred(bins: Uint16Array, blur: number): Float64Array {
  const counts = new Float64Array(BINS);
  for (let bin = 0; bin < BINS; bin += 1) {
    if (bins[bin] === 0) continue;
    const width = Math.round(blur * bin);
    const last = Math.min(BINS - 1, bin + width);
    let parts = 0;
    for (let near = bin - width; near <= last; near += 1) parts += width + 1 - Math.abs(near - bin);
    for (let near = bin - width; near <= last; near += 1) counts[near]! += (bins[bin]! * (width + 1 - Math.abs(near - bin))) / parts;
  }
  return counts;
}

interface Ranges {
  /** Bins: loaded in [0, stay), and in [from, until) where `from` is a number. */
  stay: number;
  from: number | null;
  until: number;
}

/** The range from the beginning and the one after it that together gain most; the second costs a start. */
function bestRanges({ gain, still }: Gains, { worthMinutes, startMinutes }: AdaptiveSettings): Ranges {
  // From the end: what the best range gains that begins here, what the best gains that begins here or later, and which it is.
  const best = new Float64Array(BINS + 1);
  const from = new Int16Array(BINS + 1).fill(-1);
  const until = new Int16Array(BINS + 1);
  let here = 0;
  let end = BINS;
  for (let bin = BINS - 1; bin >= 0; bin -= 1) {
    if (here <= 0) {
      here = 0;
      end = bin + 1;
    }
    here += gain[bin]!;
    // It is there a bit earlier, which is paid for as well.
    const start = ((startMinutes + (1 - EARLY) * bin) / worthMinutes) * still[bin]!;
    const better = bin > 0 && here - start > best[bin + 1]!;
    best[bin] = better ? here - start : best[bin + 1]!;
    from[bin] = better ? bin : from[bin + 1]!;
    until[bin] = better ? end : until[bin + 1]!;
  }
  let most = best[0]!;
  let stay = 0;
  let sum = 0;
  for (let bin = 0; bin < BINS; bin += 1) {
    sum += gain[bin]!;
    if (sum + best[bin + 1]! <= most) continue;
    most = sum + best[bin + 1]!;
    stay = bin + 1;
  }
  return { stay, from: from[stay]! < 0 ? null : from[stay]!, until: until[stay]! };
}

/** For what comes less often than every four hours: only where it does so regularly. */
function forecast({ bins, beyond, recent }: IdleHistory): Stay['prewarm'] {
  const long = recent.filter((idleMs) => idleMs >= BINS * BIN_MS);
  if (long.length < 2 || long.length <= recent.length * MOSTLY) return null;
  let within = 0;
  for (const count of bins) within += count;
  if (beyond <= (beyond + within) * MOSTLY) return null;
  const mean = long.reduce((sum, idleMs) => sum + idleMs, 0) / long.length;
  const deviation = Math.sqrt(long.reduce((sum, idleMs) => sum + (idleMs - mean) ** 2, 0) / long.length);
  if (deviation > REGULAR * mean) return null;
  return { fromMs: mean * (1 - FORECAST_MARGIN), untilMs: mean * (1 + FORECAST_MARGIN) };
}
