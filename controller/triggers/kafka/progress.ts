/**
 * How far a partition is done. Kafka keeps one number of it, the next message to be worked on: what is done behind one
 * that is not yet is done for us alone.
 */
export class Progress {
  readonly partition: number;
  /** The next to be fetched. */
  position: bigint;
  /** What the group's coordinator has, or would begin with. It never goes back. */
  committed: bigint;
  /** In their order, those that were fetched and are not done, or are behind one that is not. */
  readonly #open: { offset: bigint; done: boolean }[] = [];

  constructor(partition: number, position: bigint) {
    this.partition = partition;
    this.position = position;
    this.committed = position;
  }

  /** Was fetched; the offsets go up. */
  took(offset: bigint): void {
    this.#open.push({ offset, done: false });
  }

  /** False where it is not open. */
  finish(offset: bigint): boolean {
    const entry = this.#open.find((other) => other.offset === offset);
    if (entry === undefined) return false;
    entry.done = true;
    while (this.#open[0]?.done === true) this.#open.shift();
    return true;
  }

  /** The next message to be worked on, if this member ended now. */
  get next(): bigint {
    return this.#open[0]?.offset ?? this.position;
  }
}
