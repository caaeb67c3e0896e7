/** When something falls due: the earliest first, with one timer for all. A heap, so that a hundred thousand delays cost little. */
import type { Clock } from '#kit/clock.ts';
import { TimeHeap } from '../core/time-heap.ts';

/** Times that are kept; beyond it they are found by the look at all lanes that is made every second. */
const MAX_TIMES = 100_000;
/** Longest that a timer runs, ms: setTimeout takes no more than 24 days, and the wall clock may jump. */
const MAX_TIMER_MS = 60_000;

interface Due {
  at: number;
  lane: string;
}

export class DueTimes {
  readonly #clock: Clock;
  readonly #onDue: (lane: string) => void;
  readonly #heap = new TimeHeap<Due>();
  #timerAt = Infinity;
  #cancel: () => void = () => {};

  constructor(clock: Clock, onDue: (lane: string) => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  /** `at` is of the wall clock. */
  add(at: number, lane: string): void {
    if (this.#heap.length >= MAX_TIMES) return;
    this.#heap.push({ at, lane });
    this.#arm();
  }

  get size(): number {
    return this.#heap.length;
  }

  close(): void {
    this.#cancel();
    this.#heap.clear();
    this.#timerAt = Infinity;
  }

  #arm(): void {
    const next = this.#heap.first?.at ?? Infinity;
    if (next >= this.#timerAt) return;
    this.#cancel();
    this.#timerAt = next;
    const inMs = Math.min(MAX_TIMER_MS, Math.max(0, next - this.#clock.wall()));
    this.#cancel = this.#clock.after(Math.ceil(inMs), () => this.#fire());
  }

  #fire(): void {
    this.#timerAt = Infinity;
    const now = this.#clock.wall();
    const lanes = new Set<string>();
    for (let { first } = this.#heap; first !== undefined && first.at <= now; first = this.#heap.first) {
      lanes.add(first.lane);
      this.#heap.pop();
    }
    for (const lane of lanes) this.#onDue(lane);
    this.#arm();
  }
}
