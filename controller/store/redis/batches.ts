/**
 * Calls of one turn of the event loop, sent as one script: a thousand clients that are accepted at once cost a few scripts and, with
 * `appendfsync always`, a few writes to the disk. Who is in a batch with others shares its fate: it is done whole or not at all.
 */
import type { RedisValue } from './connection.ts';

/** What one script is given at most: it takes some 10 ms, for so long everybody else waits. */
export const PART = { items: 500, bytes: 4_194_304 } as const;

/** About so many bytes on the wire. */
export const sizeOf = (args: readonly RedisValue[]): number =>
  args.reduce<number>((sum, value) => sum + (typeof value === 'number' ? 8 : value.length), 0);

/** Arguments of some items, not more than one script can take. */
export interface Part {
  args: RedisValue[];
  items: number;
  bytes: number;
}

const emptyPart = (): Part => ({ args: [], items: 0, bytes: 0 });
const fits = (part: Part, more: { items: number; bytes: number }): boolean =>
  part.items === 0 || (part.items + more.items <= PART.items && part.bytes + more.bytes <= PART.bytes);

/** Those with more than one item; an item that alone is longer is a part by itself. */
export function partsOf<T>(items: readonly T[], toArgs: (item: T) => RedisValue[]): Part[] {
  const parts: Part[] = [];
  let part = emptyPart();
  for (const item of items) {
    const args = toArgs(item);
    const more = { items: 1, bytes: sizeOf(args) };
    if (!fits(part, more)) {
      parts.push(part);
      part = emptyPart();
    }
    append(part, { ...more, args });
  }
  if (part.items > 0) parts.push(part);
  return parts;
}

/** One by one: a spread of many thousands is too much for the stack. */
function append(part: Part, more: Part): void {
  for (const arg of more.args) part.args.push(arg);
  part.items += more.items;
  part.bytes += more.bytes;
}

interface Waiting {
  /** Only what is for the same one goes together. */
  group: string;
  part: Part;
  resolve(answers: unknown[]): void;
  reject(error: unknown): void;
}

export class Batches {
  /** Runs the script; an answer for each item. */
  readonly #run: (group: string, args: RedisValue[]) => Promise<unknown[]>;
  #waiting: Waiting[] = [];

  constructor(run: (group: string, args: RedisValue[]) => Promise<unknown[]>) {
    this.#run = run;
  }

  /** Answers of the items of the part, in their order. Parts are sent in the order in which they come. */
  add(group: string, part: Part): Promise<unknown[]> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length === 0) setImmediate(() => this.#flush());
      this.#waiting.push({ group, part, resolve, reject });
    });
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    let batch = emptyPart();
    let calls: Waiting[] = [];
    for (const call of waiting) {
      if (calls.length > 0 && (calls[0]!.group !== call.group || !fits(batch, call.part))) {
        void this.#send(batch, calls);
        batch = emptyPart();
        calls = [];
      }
      append(batch, call.part);
      calls.push(call);
    }
    void this.#send(batch, calls);
  }

  /** Does not throw: each caller is told. */
  async #send(batch: Part, calls: readonly Waiting[]): Promise<void> {
    try {
      const answers = await this.#run(calls[0]?.group ?? '', batch.args);
      let from = 0;
      for (const { part, resolve } of calls) resolve(answers.slice(from, (from += part.items)));
    } catch (error) {
      for (const { reject } of calls) reject(error);
    }
  }
}
