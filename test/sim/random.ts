/** Chance that is the same each time for the same seed, and a model of the traffic of many functions. */

/** Numbers from 0 up to 1, of a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A time of the exponential distribution with this mean. */
export const exponential = (random: () => number, mean: number): number => -Math.log(1 - random()) * mean;

/** Share of the traffic that each function has, the most used first: Zipf's law with the exponent `skew`. They sum up to 1. */
export function zipfShares(functions: number, skew: number): Float64Array {
  const shares = Float64Array.from({ length: functions }, (_, rank) => (rank + 1) ** -skew);
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
}

/** Picks a function by its share. */
export function picker(shares: Float64Array, random: () => number): () => number {
  let sum = 0;
  const upTo = shares.map((share) => (sum += share));
  return () => {
    const at = random() * sum;
    let low = 0;
    let high = upTo.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (upTo[middle]! < at) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

export interface Load {
  /** Requests per second, of all functions and gateways. */
  requestsPerSecond: number;
  /** How long an instance is there after its last request, seconds. */
  lingerSeconds: number;
}

/**
 * How much traffic, and how long a linger, make so many cold starts per second with so many instances up. Requests of a function come
 * by chance (Poisson, rate λ); one is a cold start where none came within the linger T before it:
 *   cold starts = Σ λ·e^(−λT)      instances = Σ (1 − e^(−λT))
 * By bisection: for each T the rate that has the instances, and of those the T that has the cold starts. What is
 * used by several gateways at once has some more instances; so runs tell what they measured.
 */
export function loadFor(shares: Float64Array, coldPerSecond: number, instances: number): Load {
  if (instances >= shares.length)
    throw new Error('the model has at most one instance per function: fewer instances than functions, please');
  const rateFor = (linger: number) =>
    bisect(0, 1e7, (rate) => shares.reduce((sum, share) => sum + 1 - Math.exp(-rate * share * linger), 0) < instances);
  const coldAt = (linger: number) => {
    const rate = rateFor(linger);
    return shares.reduce((sum, share) => sum + rate * share * Math.exp(-rate * share * linger), 0);
  };
  const lingerSeconds = bisect(0.01, 3_600, (linger) => coldAt(linger) > coldPerSecond);
  return { requestsPerSecond: rateFor(lingerSeconds), lingerSeconds };
}

/** Where `more` turns false, between the two. */
function bisect(from: number, to: number, more: (at: number) => boolean): number {
  let [low, high] = [from, to];
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (more(middle)) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
