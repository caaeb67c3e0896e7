/** How many calls at a time a trigger makes: by what waits, what arrives and how long a call takes. */
import { wantedCalls } from '../core/backlog.ts';

/** Share of the newest measurement in a moving average. */
const NEWEST = 0.2;
const average = (before: number, newest: number): number => (before === 0 ? newest : before + (newest - before) * NEWEST);

export class Pace {
  #limit = 1;
  #saturated = false;
  #serviceMs = 0;
  #perCall = 1;
  #arrivals = 0;
  /** Since the last decision. */
  #received = 0;
  #lagBefore: number | null = null;
  #decidedAt: number;
  #lag: number | null = null;

  constructor(now: number) {
    this.#decidedAt = now;
  }

  get limit(): number {
    return this.#limit;
  }

  /** As the broker told last. */
  get lag(): number | null {
    return this.#lag;
  }

  set lag(lag: number | null) {
    this.#lag = lag;
  }

  /** Messages that came. */
  received(count: number): void {
    this.#received += count;
  }

  /** A call could not be made because as many as allowed were under way. */
  saturated(): void {
    this.#saturated = true;
  }

  called(messages: number, ms: number): void {
    this.#perCall = average(this.#perCall, messages);
    this.#serviceMs = average(this.#serviceMs, Math.max(0.1, ms));
  }

  /** Decides anew. `held`: messages that were taken and wait here. */
  decide(now: number, held: number, most: number): number {
    const seconds = Math.max(0.001, (now - this.#decidedAt) / 1_000);
    const grew = this.#lag === null || this.#lagBefore === null ? 0 : this.#lag - this.#lagBefore;
    this.#arrivals = average(this.#arrivals, Math.max(0, this.#received + grew) / seconds);
    this.#limit = wantedCalls({
      lag: this.#lag === null ? null : this.#lag + held,
      perCall: this.#perCall,
      arrivalsPerSecond: this.#arrivals,
      serviceMs: this.#serviceMs,
      current: this.#limit,
      saturated: this.#saturated,
      most: Math.max(1, most),
    });
    this.#received = 0;
    this.#saturated = false;
    this.#lagBefore = this.#lag;
    this.#decidedAt = now;
    return this.#limit;
  }
}
