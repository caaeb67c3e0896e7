/** Rate limits: token buckets, of a bounded number. */
import type { Clock } from '#kit/clock.ts';
import { LruMap } from './lru.ts';

/** What a bucket may give. */
export interface Rate {
  perSecond: number;
  /** Most at once. */
  burst: number;
}

/** Longest that somebody is told to wait, seconds. */
const MAX_RETRY_AFTER_SECONDS = 3_600;

interface Bucket {
  tokens: number;
  /** When `tokens` was right, monotonic ms. */
  at: number;
}

/** One gateway's share of a limit that all gateways keep together. */
export function shareOf(rate: Rate, gateways: number): Rate {
  return { perSecond: rate.perSecond / gateways, burst: Math.max(1, Math.floor(rate.burst / gateways)) };
}

export class TokenBuckets {
  readonly #clock: Clock;
  readonly #buckets: LruMap<string, Bucket>;

  /**
   * `max` buckets; past it the one not used for longest is forgotten, and begins full when it is used
   * again. So a flood of made-up callers costs no memory, and buys no caller of its own more than a burst.
   */
  constructor(clock: Clock, max: number) {
    this.#clock = clock;
    this.#buckets = new LruMap(max);
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Takes one. 0: it was there; else the seconds until there is one. */
  take(key: string, { perSecond, burst }: Rate): number {
    const now = this.#clock.now();
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      bucket = { tokens: burst, at: now };
      this.#buckets.set(key, bucket);
    } else {
      bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1_000) * perSecond);
      bucket.at = now;
    }
    if (bucket.tokens >= 1) {
      bucket.tokens -= 1;
      return 0;
    }
    if (perSecond <= 0) return MAX_RETRY_AFTER_SECONDS;
    return Math.min(MAX_RETRY_AFTER_SECONDS, (1 - bucket.tokens) / perSecond);
  }
}
