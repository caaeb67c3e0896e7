/** Times at which something is to be looked at again: a heap, in which each key has one time at most. Pure. */

interface Entry {
  key: string;
  at: number;
}

/** A heap of so many entries is never too large. */
const MIN_HEAP = 256;

export class DueTimes {
  readonly #at = new Map<string, number>();
  /** A binary heap by time; entries whose key has another time by now are passed over when they are met. */
  readonly #heap: Entry[] = [];

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
    this.#push({ key, at });
    // Who is put off again and again, as one that is used is, leaves an entry each time, for as long as it would have lasted.
    if (this.#heap.length > Math.max(MIN_HEAP, 4 * this.#at.size)) this.#compact();
  }

  #compact(): void {
    this.#heap.length = 0;
    // What is sorted is a heap.
    for (const [key, at] of [...this.#at].toSorted(([, a], [, b]) => a - b)) this.#heap.push({ key, at });
  }

  /** The key's time; null: it has none. */
  of(key: string): number | null {
    return this.#at.get(key) ?? null;
  }

  /** The earliest time; null: there is none. */
  next(): number | null {
    this.#dropStale();
    return this.#heap[0]?.at ?? null;
  }

  /** The keys whose time has come; they have none any more. */
  take(now: number): string[] {
    const due: string[] = [];
    for (let at = this.next(); at !== null && at <= now; at = this.next()) {
      const { key } = this.#pop();
      this.#at.delete(key);
      due.push(key);
    }
    return due;
  }

  #dropStale(): void {
    for (let first = this.#heap[0]; first !== undefined && this.#at.get(first.key) !== first.at; first = this.#heap[0]) this.#pop();
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (heap[parent]!.at <= entry.at) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): Entry {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.at < heap[child]!.at) child += 1;
      if (heap[child]!.at >= last.at) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}
