/**
 * Work by key: each key is worked on by one at a time, some keys beside each other, and one that failed waits longer each time. No
 * namespace keeps the others from being worked on, however much it has and however long that takes.
 */
import { backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';

/** Keys that are worked on at a time. A deployment mostly waits for an instance to load. */
const AT_ONCE = 4;
/** Of one namespace: a URL that answers nothing holds its place for a minute. */
const AT_ONCE_OF_NAMESPACE = 3;
/** Pauses of a key that fails. The longest is how long it takes until what was wrong and is right now is noticed. */
const RETRY = { baseMs: 2_000, maxMs: 300_000 } as const;

/** Of `NAMESPACE/NAME`. */
const namespaceOf = (key: string): string => key.slice(0, key.indexOf('/'));

interface Waiting {
  cancel: () => void;
  /** Ms on the clock. */
  at: number;
}

export class WorkQueue {
  readonly #clock: Clock;
  readonly #work: (key: string, attempt: number) => Promise<void>;
  readonly #ready = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #waiting = new Map<string, Waiting>();
  readonly #failures = new Map<string, number>();
  /** When a key that failed may be begun again, ms on the clock: who changes an object all the time gets no more attempts than that. */
  readonly #notBefore = new Map<string, number>();
  #closed = false;

  /** `work` throws where it is to be tried again. `attempt`: how often it has failed in a row. */
  constructor(clock: Clock, work: (key: string, attempt: number) => Promise<void>) {
    this.#clock = clock;
    this.#work = work;
  }

  /** As soon as there is room, or in `delayMs`; a key that waits longer already, for it failed, does not wait any more. */
  add(key: string, delayMs = 0): void {
    if (this.#closed) return;
    const at = this.#clock.now() + delayMs;
    const waiting = this.#waiting.get(key);
    if (waiting !== undefined && waiting.at <= at) return;
    this.#forget(key);
    if (delayMs > 0) {
      this.#wait(key, delayMs);
      return;
    }
    this.#ready.add(key);
    this.#next();
  }

  /** Something about it is new: what failed may succeed, so that pauses begin anew, with the shortest. */
  addNew(key: string): void {
    this.#failures.delete(key);
    this.add(key, Math.max(0, (this.#notBefore.get(key) ?? 0) - this.#clock.now()));
  }

  /** Nothing begins any more; resolves when what runs has ended. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#ready.clear();
    for (const key of [...this.#waiting.keys()]) this.#forget(key);
    await Promise.all(this.#running.values());
  }

  #forget(key: string): void {
    this.#waiting.get(key)?.cancel();
    this.#waiting.delete(key);
  }

  #wait(key: string, ms: number): void {
    const cancel = this.#clock.after(ms, () => {
      this.#waiting.delete(key);
      this.add(key);
    });
    this.#waiting.set(key, { cancel, at: this.#clock.now() + ms });
  }

  #next(): void {
    for (const key of this.#ready) {
      if (this.#running.size >= AT_ONCE) return;
      if (this.#running.has(key) || this.#runningOf(namespaceOf(key)) >= AT_ONCE_OF_NAMESPACE) continue;
      this.#ready.delete(key);
      this.#running.set(key, this.#run(key));
    }
  }

  #runningOf(namespace: string): number {
    return [...this.#running.keys()].filter((key) => namespaceOf(key) === namespace).length;
  }

  async #run(key: string): Promise<void> {
    const failures = this.#failures.get(key) ?? 0;
    try {
      await this.#work(key, failures);
      this.#failures.delete(key);
      this.#notBefore.delete(key);
    } catch {
      // Who works tells what went wrong; here it only means: again.
      this.#failures.set(key, failures + 1);
      this.#notBefore.set(key, this.#clock.now() + RETRY.baseMs);
      if (!this.#ready.has(key)) this.add(key, backoffMs(failures + 1, RETRY));
    }
    this.#running.delete(key);
    if (!this.#closed) this.#next();
  }
}
