/** Times at which something is to be looked at again: a heap, in which each key has one time at most. Pure. */
import { TimeHeap } from './time-heap.ts';

interface Entry {
  key: string;
  at: number;
}

/** A heap of so many entries is never too large. */
const MIN_HEAP = 256;

export class DueTimes {
  readonly #at = new Map<string, number>();
  /** Entries whose key has another time by now are passed over when they are met. */
  readonly #heap = new TimeHeap<Entry>();

  get size(): number {
    return this.#at.size;
  }

  /** Entries that are kept for them: some of each key's former times, too. */
  get entries(): number {
    return this.#heap.length;
  }

  /** The key's only time from now on; null: none. */
  set(key: string, at: number | null): void {
    if (at === null) {
      this.#at.delete(key);
      return;
    }
    if (this.#at.get(key) === at) return;
    this.#at.set(key, at);
    this.#heap.push({ key, at });
    // Who is put off again and again, as one that is used is, leaves an entry each time, for as long as it would have lasted.
    if (this.#heap.length > Math.max(MIN_HEAP, 4 * this.#at.size)) this.#compact();
  }

  #compact(): void {
    this.#heap.clear();
    for (const [key, at] of this.#at) this.#heap.push({ key, at });
  }

  /** The key's time; null: it has none. */
  of(key: string): number | null {
    return this.#at.get(key) ?? null;
  }

  /** The earliest time; null: there is none. */
  next(): number | null {
    this.#dropStale();
    return this.#heap.first?.at ?? null;
  }

  /** The keys whose time has come; they have none any more. */
  take(now: number): string[] {
    const due: string[] = [];
    for (let at = this.next(); at !== null && at <= now; at = this.next()) {
      const { key } = this.#heap.pop()!;
      this.#at.delete(key);
      due.push(key);
    }
    return due;
  }

  #dropStale(): void {
    for (let { first } = this.#heap; first !== undefined && this.#at.get(first.key) !== first.at; first = this.#heap.first)
      this.#heap.pop();
  }
}
