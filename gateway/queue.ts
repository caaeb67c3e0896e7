/** First come, first served, with removal from the middle in constant time: clients give up while they wait. */

/** What can wait: in at most one queue at a time. */
export interface Queued {
  /** Owned by the queue. */
  place: Place | null;
}

export class Place {
  next: Place = this;
  prev: Place = this;
  readonly owner: Queued | null;

  constructor(owner: Queued | null) {
    this.owner = owner;
  }
}

export class WaitQueue<T extends Queued> {
  readonly #head = new Place(null);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): T | null {
    return this.#head.next.owner as T | null;
  }

  push(item: T): void {
    this.#insert(item, this.#head.prev);
  }

  /** For one that had its turn and lost it without being at fault. */
  pushFirst(item: T): void {
    this.#insert(item, this.#head);
  }

  #insert(item: T, after: Place): void {
    if (item.place !== null) throw new Error('already in a queue');
    const place = new Place(item);
    item.place = place;
    place.prev = after;
    place.next = after.next;
    after.next.prev = place;
    after.next = place;
    this.#size++;
  }

  /** The item must be in this queue. */
  remove(item: T): void {
    const place = item.place;
    if (place === null) throw new Error('not in a queue');
    place.prev.next = place.next;
    place.next.prev = place.prev;
    item.place = null;
    this.#size--;
  }

  shift(): T | null {
    const first = this.first;
    if (first !== null) this.remove(first);
    return first;
  }
}
