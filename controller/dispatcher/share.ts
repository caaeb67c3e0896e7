/** What namespaces have of something that is there once for all of them. */

interface Used {
  count: number;
  bytes: number;
}

const NONE: Readonly<Used> = { count: 0, bytes: 0 };

/**
 * None of them can have all of it: each may have as much as it leaves free. One alone gets half, two a third each, and whoever comes
 * anew finds room, however long the others keep what they have.
 */
export class Share {
  readonly #most: Readonly<Used>;
  readonly #total: Used = { count: 0, bytes: 0 };
  readonly #used = new Map<string, Used>();

  constructor(most: Readonly<Used>) {
    this.#most = most;
  }

  get count(): number {
    return this.#total.count;
  }

  /** How many more this namespace may have now. */
  room(namespace: string): number {
    const { count, bytes } = this.#used.get(namespace) ?? NONE;
    if (bytes >= this.#most.bytes - this.#total.bytes) return 0;
    // Each that it takes is one more of its own, and one less free.
    return Math.max(0, Math.ceil((this.#most.count - this.#total.count - count) / 2));
  }

  /** May it have one more of this size? */
  takes(namespace: string, size: number): boolean {
    const { bytes } = this.#used.get(namespace) ?? NONE;
    return this.room(namespace) > 0 && bytes + size <= this.#most.bytes - this.#total.bytes;
  }

  add(namespace: string, size: number): void {
    this.#change(namespace, 1, size);
  }

  remove(namespace: string, size: number): void {
    this.#change(namespace, -1, -size);
  }

  #change(namespace: string, count: number, bytes: number): void {
    const used = this.#used.get(namespace) ?? { count: 0, bytes: 0 };
    for (const one of [used, this.#total]) {
      one.count += count;
      one.bytes += bytes;
    }
    if (used.count === 0) this.#used.delete(namespace);
    else this.#used.set(namespace, used);
  }
}
