/**
 * Messages of a trigger that were taken and wait for a call: which of them may go into the next one. Those with the same
 * order key are called one after the other, or beside each other in one batch; one that failed holds back those behind it, and nobody else.
 */
import type { SourceMessage } from '../triggers/types.ts';

/** A message that is ours until it is acknowledged. */
export interface Held {
  readonly number: number;
  /** Of its newest delivery: what is to be acknowledged. */
  message: SourceMessage;
  /** Deliveries of the same message before it, whose acknowledgement is only tried. */
  older: SourceMessage[];
  readonly key: string;
  /** Failed attempts that count. */
  attempts: number;
  /** Of its first attempt here, by the monotonic clock. */
  firstAt: number | null;
  /** Since when it could be called. */
  readyAt: number;
  /** Its batch failed as a whole: by itself it cannot spoil others' attempts. */
  alone: boolean;
  /** Not before. */
  dueAt: number;
  /** x-request-id of the newest attempt. */
  request: string | null;
}

interface Line {
  /** Taken, and not decided yet. */
  out: Set<Held>;
  failed: Held[];
  /** Behind them. */
  parked: Held[];
}

export interface QueueOptions {
  batchSize: number;
  windowMs: number;
  /** Most bytes of one call. */
  maxBytes: number;
  now(): number;
  /** Calls `run` after so long; returns how to prevent it. */
  after(ms: number, run: () => void): () => void;
  /** There may be something to take now. */
  wake(): void;
}

export class TriggerQueue {
  readonly #options: QueueOptions;
  #ready: Held[] = [];
  #alone: Held[] = [];
  readonly #lines = new Map<string, Line>();
  readonly #timers = new Map<Held, () => void>();
  /** Whose turn it is, so that neither starves the other. */
  #aloneNext = true;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Those that could be called now or behind each other in one batch; not those that are held back. */
  get ready(): number {
    return this.#ready.length + this.#alone.length;
  }

  add(held: Held): void {
    const key = held.message.orderKey;
    if (key !== null) {
      const line = this.#lines.get(key);
      if (line !== undefined) {
        line.parked.push(held);
        return;
      }
      this.#lines.set(key, { out: new Set(), failed: [], parked: [] });
    }
    this.#ready.push(held);
  }

  /** The next batch; else when there may be one, or null: when something is added or comes back. */
  take(): { batch: Held[] } | { at: number } | null {
    const alone = this.#aloneNext || this.#ready.length === 0 ? this.#alone.shift() : undefined;
    this.#aloneNext = !this.#aloneNext;
    if (alone !== undefined) return { batch: [this.#out(alone)] };
    const [first] = this.#ready;
    if (first === undefined) return this.#alone.length === 0 ? null : { batch: [this.#out(this.#alone.shift()!)] };
    const { batchSize, windowMs, now } = this.#options;
    const at = first.readyAt + windowMs;
    if (at > now() && !this.#full(batchSize)) return { at };
    return { batch: this.#fill(batchSize) };
  }

  /** It is done with: acknowledged, or about to be. */
  over(held: Held): void {
    this.#decided(held, false);
  }

  /** It is to be called again, at `dueAt`. */
  again(held: Held): void {
    this.#decided(held, true);
  }

  /** Forgets all that waits. */
  clear(): void {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    this.#lines.clear();
    this.#ready = [];
    this.#alone = [];
  }

  #full(batchSize: number): boolean {
    let count = 0;
    for (const { message } of this.#ready) {
      count += 1 + (message.orderKey === null ? 0 : (this.#lines.get(message.orderKey)?.parked.length ?? 0));
      if (count >= batchSize) return true;
    }
    return false;
  }

  #fill(batchSize: number): Held[] {
    const batch: Held[] = [];
    let bytes = 0;
    const fits = (held: Held) => batch.length === 0 || bytes + held.message.data.length <= this.#options.maxBytes;
    const put = (held: Held) => {
      batch.push(this.#out(held));
      bytes += held.message.data.length;
    };
    let taken = 0;
    for (const held of this.#ready) {
      if (batch.length >= batchSize || !fits(held)) break;
      taken += 1;
      put(held);
      const line = held.message.orderKey === null ? undefined : this.#lines.get(held.message.orderKey);
      let behind = 0;
      for (const next of line?.parked ?? []) {
        if (batch.length >= batchSize || next.alone || next.dueAt > this.#options.now() || !fits(next)) break;
        behind += 1;
        put(next);
      }
      line?.parked.splice(0, behind);
    }
    this.#ready.splice(0, taken);
    return batch;
  }

  #out(held: Held): Held {
    const key = held.message.orderKey;
    if (key !== null) this.#lines.get(key)?.out.add(held);
    return held;
  }

  #decided(held: Held, again: boolean): void {
    const key = held.message.orderKey;
    if (key === null) {
      if (again) this.#schedule(held);
      return;
    }
    const line = this.#lines.get(key);
    // One that was never in the queue (too large) leaves the line to those that are.
    if (line === undefined || !line.out.delete(held)) return;
    if (again) line.failed.push(held);
    if (line.out.size > 0) return;
    line.parked.unshift(...line.failed.sort((a, b) => a.number - b.number));
    line.failed = [];
    const head = line.parked.shift();
    if (head === undefined) this.#lines.delete(key);
    else this.#schedule(head);
  }

  #schedule(held: Held): void {
    const wait = held.dueAt - this.#options.now();
    const put = () => {
      this.#timers.delete(held);
      // It has waited: no window for it.
      if (held.attempts > 0) held.readyAt = Number.NEGATIVE_INFINITY;
      (held.alone ? this.#alone : this.#ready).push(held);
      this.#options.wake();
    };
    if (wait <= 0) put();
    else this.#timers.set(held, this.#options.after(wait, put));
  }
}
