/**
 * Messages of a trigger that are ours: taken from the broker, and not acknowledged yet. They are in memory, so there is a limit to
 * them; and one that the broker gives a second time meanwhile is not called twice.
 */
import type { SourceMessage } from '../triggers/types.ts';
import type { Held } from './trigger-queue.ts';

/** Most messages that are held, also those that wait to be tried again. Then nothing is taken until some are done. */
const MAX_HELD = 10_000;
/** The same, bytes. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;
/** Share of the newest message in the moving average of their length, and what that is before the first, bytes. */
const NEWEST = 0.1;
const FIRST_BYTES = 1_024;

export class HeldMessages {
  readonly #maxAttempts: number;
  readonly #held = new Map<string, Held>();
  #bytes = 0;
  #numbers = 0;
  #messageBytes = FIRST_BYTES;

  constructor(maxAttempts: number) {
    this.#maxAttempts = maxAttempts;
  }

  get size(): number {
    return this.#held.size;
  }

  /** Their newest deliveries. */
  get messages(): SourceMessage[] {
    return [...this.#held.values()].map(({ message }) => message);
  }

  /** How many more may be taken, as long as those before them. */
  get room(): number {
    const bytes = Math.floor((MAX_HELD_BYTES - this.#bytes) / this.#messageBytes);
    return Math.min(MAX_HELD - this.#held.size, this.#bytes >= MAX_HELD_BYTES ? 0 : Math.max(1, bytes));
  }

  /** Holds a message; null where it is held already. `now`: monotonic ms. */
  take(message: SourceMessage, now: number): Held | null {
    let key = `${message.source}\n${message.id}`;
    const before = this.#held.get(key);
    if (before !== undefined) {
      if (Buffer.compare(before.message.data, message.data) === 0) {
        // The broker gave it a second time while we are at it: the newest delivery is the one to acknowledge.
        before.older.push(before.message);
        before.message = message;
        return null;
      }
      key += `\n${this.#numbers}`;
    }
    const held: Held = {
      number: this.#numbers++,
      message,
      older: [],
      key,
      // Workers that died with it count; one attempt it gets here.
      attempts: Math.min(Math.max(0, message.deliveries - 1), this.#maxAttempts - 1),
      firstAt: null,
      readyAt: now,
      alone: false,
      dueAt: 0,
      request: null,
    };
    this.#held.set(key, held);
    this.#bytes += message.data.length;
    this.#messageBytes += (message.data.length - this.#messageBytes) * NEWEST;
    return held;
  }

  /** It is the broker's again, or done. False where it was not held. */
  forget(held: Held): boolean {
    if (!this.#held.delete(held.key)) return false;
    this.#bytes -= held.message.data.length;
    return true;
  }

  clear(): void {
    this.#held.clear();
    this.#bytes = 0;
  }
}
