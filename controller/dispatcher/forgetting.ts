/** Removes what functions that were deleted have in the store, however long that is away; meanwhile nothing is accepted for their names. */
import { FnError } from '#contract/errors.ts';
import { type BackoffOptions, backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { EventStore, NewEvent } from '../store/events.ts';
import { nameOf } from './functions.ts';
import { messageOf } from './ownership.ts';

/** Between attempts. */
const RETRY: BackoffOptions = { baseMs: 100, maxMs: 2_000, jitter: 0.3 };

interface ForgettingOptions {
  store: Pick<EventStore, 'forget'>;
  clock: Clock;
  log: Log;
  /** All of it is gone. */
  onForgotten(namespace: string, name: string): void;
}

export class Forgetting {
  readonly #options: ForgettingOptions;
  /** Functions that were deleted, until their events are gone. */
  readonly #under = new Map<string, Promise<void>>();
  #closed = false;

  constructor(options: ForgettingOptions) {
    this.#options = options;
  }

  /** Resolves when all is gone, or this dispatcher ends; never rejects. */
  forget(namespace: string, name: string): Promise<void> {
    const key = nameOf(namespace, name);
    // Nothing was accepted since it began: what it removes is all that there is.
    let forgotten = this.#under.get(key);
    if (forgotten === undefined) {
      forgotten = this.#forget(namespace, name).finally(() => this.#under.delete(key));
      this.#under.set(key, forgotten);
    }
    return forgotten;
  }

  under(namespace: string, name: string): boolean {
    return this.#under.has(nameOf(namespace, name));
  }

  async #forget(namespace: string, name: string): Promise<void> {
    const { store, clock, log, onForgotten } = this.#options;
    for (let failures = 0; !this.#closed; failures += 1) {
      try {
        const count = await store.forget(namespace, name);
        onForgotten(namespace, name);
        if (count > 0) log.info({ namespace, name, events: count }, 'events of a deleted function are removed');
        return;
      } catch (error) {
        if (failures === 0)
          log.warn({ namespace, name, error: messageOf(error) }, 'events of a deleted function cannot be removed now; trying again');
        await new Promise<void>((resolve) => {
          clock.after(backoffMs(failures + 1, RETRY), resolve);
        });
      }
    }
  }

  /** Throws FnError events-unavailable while an earlier function of this name is being forgotten: what comes now would go with it. */
  check({ namespace, name }: Pick<NewEvent, 'namespace' | 'name'>): void {
    if (!this.#under.has(nameOf(namespace, name))) return;
    const detail = `What waited for an earlier function ${name} is being removed.`;
    throw new FnError('events-unavailable', detail, { retryAfterSeconds: 1 });
  }

  /** What is not removed by now is not removed any more. Idempotent. */
  close(): void {
    this.#closed = true;
  }
}
