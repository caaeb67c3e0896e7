/** Lines are gathered for so long before they are written, ms: a chatty function must not cost a write per line. */
const GATHER_MS = 20;
/** So many lines are written at once; while they are, no more are read. */
const MAX_BATCH = 2_000;

/** Gathers what one reader has read; written in order, one batch after another. */
export class LogBatch<T> {
  readonly #write: (items: T[]) => Promise<void>;
  #items: T[] = [];
  #changed = false;
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> = Promise.resolve();

  /** `write` handles its own errors. It is called with none too, where the reader has moved on without a whole line. */
  constructor(write: (items: T[]) => Promise<void>) {
    this.#write = write;
  }

  /** Resolves at once, or, when there is much already, when it is written. */
  async add(items: readonly T[]): Promise<void> {
    this.#items.push(...items);
    this.#changed = true;
    this.#timer ??= setTimeout(() => void this.flush(), GATHER_MS);
    if (this.#items.length >= MAX_BATCH) await this.flush();
  }

  /** Resolves when all that was added is written. */
  flush(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#changed) {
      this.#writing = this.#writing.then(async () => {
        const items = this.#items;
        this.#items = [];
        this.#changed = false;
        await this.#write(items);
      });
    }
    return this.#writing;
  }
}
