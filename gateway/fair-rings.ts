/**
 * A fixed number of places, in a ring for each owner: who fills many pushes out his own oldest, and nobody
 * what is another's fair share. Places that an owner does not need are lent to who does.
 */

/** A ring that nothing came to for so long gives its places back when another owner comes, ms. */
const IDLE_MS = 3_600_000;

class Ring<T> {
  readonly places: T[] = [];
  usedAt = 0;
  /** Before it is the newest, at it the oldest; the length where the oldest is the first. */
  #next = 0;

  add(place: T): void {
    this.places.splice(this.#next, 0, place);
    this.#next++;
  }

  takeOldest(): T {
    if (this.#next >= this.places.length) this.#next = 0;
    return this.places.splice(this.#next, 1)[0]!;
  }

  /** The oldest, which is the newest from now on. */
  turn(): T {
    if (this.#next >= this.places.length) this.#next = 0;
    return this.places[this.#next++]!;
  }

  /** The n-th newest, from 1 on. */
  back(n: number): T {
    const { length } = this.places;
    return this.places[(this.#next - n + length) % length]!;
  }
}

export class FairRings<T> {
  readonly #most: number;
  readonly #create: (n: number) => T;
  readonly #rings = new Map<string, Ring<T>>();
  #created = 0;
  #free: T[] = [];

  /** `create` makes the n-th place, from 0 on, once it is needed; at most `most`. */
  constructor(most: number, create: (n: number) => T) {
    this.#most = most;
    this.#create = create;
  }

  /** The place to fill: a free one, else the oldest of who has most, else, of who has a fair share, its own oldest. */
  place(owner: string, now: number): T {
    const ring = this.#rings.get(owner) ?? this.#begin(owner, now);
    ring.usedAt = now;
    const full = this.#created === this.#most && this.#free.length === 0;
    if (full && ring.places.length >= Math.max(1, Math.floor(this.#most / this.#rings.size))) return ring.turn();
    const place = full ? this.#takeFromLargest() : (this.#free.pop() ?? this.#create(this.#created++));
    ring.add(place);
    return place;
  }

  /** At most so many that fit, by owner and each owner's newest first: the first of all come before any second. */
  find(fits: (place: T) => boolean, most: number): T[] {
    const found: { place: T; rank: number }[] = [];
    for (const ring of this.#rings.values()) {
      const count = ring.places.length;
      for (let n = 1, rank = 0; n <= count && rank < most; n++) {
        const place = ring.back(n);
        if (fits(place)) found.push({ place, rank: rank++ });
      }
    }
    return found
      .toSorted((a, b) => a.rank - b.rank)
      .slice(0, most)
      .map(({ place }) => place);
  }

  #begin(owner: string, now: number): Ring<T> {
    for (const [other, { places, usedAt }] of this.#rings) {
      if (now - usedAt < IDLE_MS) continue;
      this.#free = this.#free.concat(places);
      this.#rings.delete(other);
    }
    const ring = new Ring<T>();
    this.#rings.set(owner, ring);
    return ring;
  }

  #takeFromLargest(): T {
    let largest: [string, Ring<T>] | null = null;
    for (const entry of this.#rings) if (largest === null || entry[1].places.length > largest[1].places.length) largest = entry;
    const [owner, ring] = largest!;
    const place = ring.takeOldest();
    if (ring.places.length === 0) this.#rings.delete(owner);
    return place;
  }
}
