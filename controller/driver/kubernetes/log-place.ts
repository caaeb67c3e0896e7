/**
 * A place in what a pod writes that survives a restart. The API server gives each entry its time, to the nanosecond, but begins
 * at a whole second only; and entries can have equal times, or be filed after a later one. The order in the node's file is
 * stable, though. So a position is a whole second safely in the past (the mark), how many entries not older than it were given
 * out, and the newest time given out: reading begins at the mark and leaves out that many.
 */

/** How far two entries can be filed out of order, seconds. Thousands of times what was seen. */
const REORDER_SECONDS = 1;

/** `2026-11-21T15:35:01.606340210Z`, or with the node's offset from UTC; some nodes leave out zeros at the end. */
const STAMP = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

export interface Stamp {
  /** Seconds since 1970. */
  second: number;
  /** Sorts as time does. */
  key: string;
}

/** null: it is none. */
export function parseStamp(text: string): Stamp | null {
  const match = STAMP.exec(text);
  if (match === null) return null;
  const second = Date.parse(`${match[1]}${match[3]}`) / 1_000;
  return Number.isNaN(second) ? null : { second, key: `${second}.${(match[2] ?? '').padEnd(9, '0')}` };
}

export class LogPlace {
  /** Entries given out, by second; those before the mark are forgotten. */
  readonly #counts = new Map<number, number>();
  #mark: number | null;
  #newest: string;
  /** Entries still to be left out, and how many there were to be. */
  #skip: number;
  #skipped: number;

  constructor(after: string | null) {
    const position = after === null ? null : parsePosition(after);
    this.#mark = position?.mark ?? null;
    this.#newest = position?.newest ?? '';
    this.#skip = this.#skipped = position?.given ?? 0;
  }

  /** Where the API server is to begin; null: at the start. */
  get since(): string | null {
    return this.#mark === null ? null : new Date(this.#mark * 1_000).toISOString().replace('.000Z', 'Z');
  }

  /** After the last entry that was taken. */
  get position(): string {
    return `${this.#mark ?? 0}+${this.#given}+${this.#newest}`;
  }

  /** Begins again from the position reached, on a new stream. */
  rewind(): void {
    // One that broke off while it left out what was given: the rest of that is not known here, and the count before it holds.
    this.#skip = this.#skipped = this.#skip > 0 ? this.#skipped : this.#given;
    this.#counts.clear();
  }

  /** `new`: to be given out; `lost`: so too, and others before it may be missing; `known`: it was given out before. */
  take({ second, key }: Stamp): 'new' | 'lost' | 'known' {
    let verdict: 'new' | 'lost' = 'new';
    if (this.#skip > 0) {
      // What is newer than all that was given out was not given out, whatever the log's rotation took away.
      if (key <= this.#newest) {
        this.#skip -= 1;
        this.#count(second);
        return 'known';
      }
      verdict = this.#skip === this.#skipped ? 'lost' : 'new';
      this.#skip = 0;
    }
    if (key > this.#newest) this.#newest = key;
    this.#count(second);
    const mark = Math.max(this.#mark ?? 0, Number.parseInt(this.#newest, 10) - REORDER_SECONDS);
    if (mark !== this.#mark) for (const other of this.#counts.keys()) if (other < mark) this.#counts.delete(other);
    this.#mark = mark;
    return verdict;
  }

  #count(second: number): void {
    if (second >= (this.#mark ?? 0)) this.#counts.set(second, (this.#counts.get(second) ?? 0) + 1);
  }

  get #given(): number {
    let sum = 0;
    for (const count of this.#counts.values()) sum += count;
    return sum;
  }
}

function parsePosition(text: string): { mark: number; given: number; newest: string } {
  const match = /^(\d+)\+(\d+)\+(\d+\.\d{9})$/.exec(text);
  if (match === null) throw new Error(`not a position in a log: ${JSON.stringify(text)}`);
  return { mark: Number(match[1]), given: Number(match[2]), newest: match[3]! };
}
