/**
 * Says to the store what became of events: all of one turn of the event loop in one transaction. What the store
 * could not be told is kept and told when it is back; the fence decides whether it still counts.
 */
import { type BackoffOptions, backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { EventStore, Settlement } from '../store/events.ts';
import { isStoreAway, messageOf } from './ownership.ts';

/** Most of one transaction. */
const MAX_BATCH = 500;
/** So long others are waited for, ms: nobody waits for a settlement, and each commit waits for the disk. */
const GATHER_MS = 3;
/** So many are told at once. */
const ENOUGH = 64;
/** Between attempts while the store is away. */
const RETRY: BackoffOptions = { baseMs: 50, maxMs: 1_000, jitter: 0.3 };

/** `unknown`: the dispatcher ends, or the store refuses this one; its claim ends by itself, and it is tried again. */
export type Settled = 'settled' | 'fenced' | 'unknown';

interface Pending {
  settlement: Settlement;
  done: (said: Settled) => void;
}

export interface SettlerOptions {
  store: Pick<EventStore, 'settle'>;
  clock: Clock;
  log: Log;
}

export class Settler {
  readonly #options: SettlerOptions;
  #pending: Pending[] = [];
  #scheduled = false;
  #gathering = false;
  #flushing = false;
  #failures = 0;
  #closed = false;

  constructor(options: SettlerOptions) {
    this.#options = options;
  }

  /** The store is away, and something is to be told to it: then nothing new is to be begun. Bounded so by what may be claimed at a time. */
  get blocked(): boolean {
    return this.#failures > 0;
  }

  get pending(): number {
    return this.#pending.length;
  }

  /** Resolves when the store has said it; never rejects. `urgent`: somebody waits for it. */
  settle(settlement: Settlement, urgent = false): Promise<Settled> {
    return new Promise((resolve) => {
      if (this.#closed) {
        resolve('unknown');
        return;
      }
      this.#pending.push({ settlement, done: resolve });
      if (urgent || this.#pending.length >= ENOUGH) this.#soon();
      else this.#later();
    });
  }

  /** A commit is being made anyway: what is to be told goes with it. */
  nudge(): void {
    if (this.#pending.length > 0 && this.#failures === 0) void this.#flush();
  }

  #soon(): void {
    if (this.#scheduled || this.#flushing || this.#failures > 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.nudge();
    });
  }

  #later(): void {
    if (this.#gathering) return;
    this.#gathering = true;
    this.#options.clock.after(GATHER_MS, () => {
      this.#gathering = false;
      this.nudge();
    });
  }

  async #flush(): Promise<void> {
    if (this.#flushing) return;
    this.#flushing = true;
    while (this.#pending.length > 0 && !this.#closed) {
      const batch = this.#pending.slice(0, MAX_BATCH);
      if (await this.#tell(batch)) this.#pending = this.#pending.slice(batch.length);
      else break;
    }
    this.#flushing = false;
    if (this.#failures > 0 && !this.#closed) this.#options.clock.after(backoffMs(this.#failures, RETRY), () => void this.#flush());
  }

  /** False: the store is away. */
  async #tell(batch: readonly Pending[]): Promise<boolean> {
    const { store, log } = this.#options;
    try {
      const said = await store.settle(batch.map(({ settlement }) => settlement));
      if (this.#failures > 0) log.info({ settled: batch.length }, 'the store of events is told what became of events meanwhile');
      this.#failures = 0;
      for (const [index, { done }] of batch.entries()) done(said[index] ?? 'unknown');
      return true;
    } catch (error) {
      if (isStoreAway(error)) {
        if (this.#failures === 0)
          log.warn({ error: messageOf(error), pending: this.#pending.length }, 'what became of events cannot be stored now');
        this.#failures += 1;
        return false;
      }
      // One of them is what the store does not take: it must not keep the others.
      const [first, ...others] = batch;
      if (first === undefined) return true;
      if (others.length > 0) {
        for (const one of batch) if (!(await this.#tell([one]))) return false;
        return true;
      }
      log.error(
        { event: first.settlement.id, outcome: first.settlement.outcome, error: messageOf(error) },
        'the store refuses what became of an event',
      );
      first.done('unknown');
      return true;
    }
  }

  /** What is not told by now is not told any more. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const { done } of this.#pending) done('unknown');
    this.#pending = [];
  }
}
