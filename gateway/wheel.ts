/**
 * Deadlines of thousands of requests on one timer: a hashed timing wheel (Varghese and Lauck). A
 * timer per request costs a heap operation in Node and its list per duration; here setting and
 * cancelling are a few pointer writes, and one timer runs while anything is set.
 */
import type { Clock } from '#kit/clock.ts';

/** What can be put on a wheel: at most one deadline at a time per object. */
export interface WheelEntry {
  /** Called once, on the first tick at or after the deadline. May set the entry again. */
  onDeadline(now: number): void;
  /** Owned by the wheel. */
  wheel: WheelSlot | null;
}

/** Where an entry hangs: a node of its bucket's ring. */
export class WheelSlot {
  deadline = 0;
  readonly entry: WheelEntry | null;
  next: WheelSlot = this;
  prev: WheelSlot = this;

  constructor(entry: WheelEntry | null) {
    this.entry = entry;
  }
}

export interface WheelOptions {
  /** How late a deadline may be noticed at most, beside a busy event loop, ms. */
  tickMs: number;
  /** A power of two. Deadlines further away than buckets × tickMs stay for more rounds. */
  buckets?: number;
}

/** Ticks without any entry after which the timer stops: it is not restarted for each lone request. */
const IDLE_TICKS = 40;

export class DeadlineWheel {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #buckets: WheelSlot[];
  readonly #mask: number;
  #size = 0;
  /** Number of the last tick that ran: tick t covers deadlines up to t × tickMs. */
  #tick = 0;
  #idleTicks = 0;
  #cancelTimer: (() => void) | null = null;

  constructor(clock: Clock, { tickMs, buckets = 512 }: WheelOptions) {
    this.#clock = clock;
    this.#tickMs = tickMs;
    this.#mask = buckets - 1;
    this.#buckets = Array.from({ length: buckets }, () => new WheelSlot(null));
  }

  get size(): number {
    return this.#size;
  }

  /** Sets the entry's deadline (monotonic ms), instead of an earlier one. */
  set(entry: WheelEntry, deadline: number): void {
    const slot = (entry.wheel ??= new WheelSlot(entry));
    if (slot.next !== slot) this.#unlink(slot);
    if (this.#cancelTimer === null) this.#start();
    slot.deadline = deadline;
    const tick = Math.max(this.#tick + 1, Math.ceil(deadline / this.#tickMs));
    const head = this.#buckets[tick & this.#mask]!;
    slot.prev = head.prev;
    slot.next = head;
    head.prev.next = slot;
    head.prev = slot;
    this.#size++;
  }

  /** Nothing happens where none is set. */
  cancel(entry: WheelEntry): void {
    const slot = entry.wheel;
    if (slot !== null && slot.next !== slot) this.#unlink(slot);
  }

  #unlink(slot: WheelSlot): void {
    slot.prev.next = slot.next;
    slot.next.prev = slot.prev;
    slot.next = slot;
    slot.prev = slot;
    this.#size--;
  }

  #start(): void {
    this.#tick = Math.floor(this.#clock.now() / this.#tickMs);
    this.#idleTicks = 0;
    this.#arm();
  }

  #arm(): void {
    this.#cancelTimer = this.#clock.after(this.#tickMs, () => this.#run());
  }

  #run(): void {
    const now = this.#clock.now();
    const target = Math.floor(now / this.#tickMs);
    // After a stall longer than a round every bucket has been visited once; more would be in vain.
    if (target - this.#tick > this.#mask) this.#tick = target - this.#mask - 1;
    const due: WheelSlot[] = [];
    while (this.#tick < target) {
      this.#tick++;
      const head = this.#buckets[this.#tick & this.#mask]!;
      for (let slot = head.next; slot !== head; slot = slot.next) if (slot.deadline <= now) due.push(slot);
    }
    due.sort((a, b) => a.deadline - b.deadline);
    for (const slot of due) {
      // One that an earlier callback cancelled or moved is not due any more.
      if (slot.next === slot || slot.deadline > now) continue;
      this.#unlink(slot);
      slot.entry!.onDeadline(now);
    }
    this.#idleTicks = this.#size === 0 ? this.#idleTicks + 1 : 0;
    if (this.#idleTicks < IDLE_TICKS) this.#arm();
    else this.#cancelTimer = null;
  }
}
