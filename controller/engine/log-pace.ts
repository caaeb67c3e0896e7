/**
 * How fast one instance's output is read. The shim holds console and process.stdout to such a rate, but
 * a function can write to its descriptors by itself, and what reads it is the controller. Not
 * reading is enough: the driver's own log is capped, and what it turns over unread is lost to the
 * function that flooded it, to nobody else.
 */
import type { Clock } from '#kit/clock.ts';

export interface PaceLimits {
  bytesPerSecond: number;
  burstBytes: number;
}

export const LOG_PACE: PaceLimits = { bytesPerSecond: 1024 * 1024, burstBytes: 4 * 1024 * 1024 };

export class LogPace {
  readonly #clock: Clock;
  readonly #limits: PaceLimits;
  #left: number;
  #at: number;

  constructor(clock: Clock, limits: PaceLimits = LOG_PACE) {
    this.#clock = clock;
    this.#limits = limits;
    this.#left = limits.burstBytes;
    this.#at = clock.now();
  }

  /** Counts bytes that were read; how long to read no more, ms. */
  take(bytes: number): number {
    const now = this.#clock.now();
    const { bytesPerSecond, burstBytes } = this.#limits;
    this.#left = Math.min(burstBytes, this.#left + ((now - this.#at) * bytesPerSecond) / 1_000) - bytes;
    this.#at = now;
    return this.#left >= 0 ? 0 : (-this.#left * 1_000) / bytesPerSecond;
  }
}
