/**
 * A controller's turn to lead: it waits for it, however long whatever it needs is away, raises the term, and ends itself when it
 * leads no more. Nothing that is away ends a controller that waits: it would only be started again, to wait.
 */
import { FnError } from '#contract/errors.ts';
import { type BackoffOptions, backoffMs } from '#kit/backoff.ts';
import { type Clock, sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { type HoldOver, Lease } from './leadership.ts';
import type { Leadership, Store } from './store/types.ts';

/** Between attempts to open a store that is away. */
const OPEN_AGAIN = { baseMs: 500, maxMs: 10_000, jitter: 0.3 };
/** Who won the lease and cannot write to the store gives it up and waits for so long: another may reach the store. Twice a campaign's pace. */
const RAISE_AGAIN_MS = 3_000;

const isAway = (error: unknown): error is FnError => error instanceof FnError && error.code === 'store-unavailable';

/** Calls `open` until the store is there. Each reason why it is not is told once. Rejects when `signal` is aborted, and for what waiting does not change. */
export async function openPatiently<T>(
  open: () => Promise<T>,
  log: Log,
  signal: AbortSignal,
  again: BackoffOptions = OPEN_AGAIN,
): Promise<T> {
  let told = '';
  for (let failures = 1; ; failures += 1) {
    try {
      return await open();
    } catch (error) {
      if (!isAway(error)) throw error;
      if (told !== error.message) log.warn({ error: error.message }, 'the store cannot be opened: waiting for it');
      told = error.message;
    }
    await sleep(backoffMs(failures, again), signal);
  }
}

export interface TurnOptions {
  /** Who decides who leads: the store itself, or something beside it. */
  leadership: Leadership;
  holdOver: HoldOver | null;
  /** This process. */
  candidate: string;
  isDead: (candidate: string) => boolean;
  store: Pick<Store, 'raiseTerm'>;
  clock: Clock;
  log: Log;
  /** It leads no more: what runs is another's now. */
  onLost: (why: string) => void;
  campaignMs?: number;
  raiseAgainMs?: number;
}

export interface Turn {
  lease: Lease;
  /** Under which the store writes from now on. */
  term: number;
  /** Who led before, and has not given it up; null: nobody. */
  former: string | null;
}

/** Waits until this process leads. Rejects when `signal` is aborted. */
export async function takeTurn(options: TurnOptions, signal: AbortSignal): Promise<Turn> {
  const { leadership, holdOver, candidate, isDead, store, clock, log, onLost, campaignMs, raiseAgainMs = RAISE_AGAIN_MS } = options;
  const pace = campaignMs === undefined ? {} : { campaignMs };
  for (;;) {
    const lease = new Lease({ leadership, holdOver, candidate, isDead, clock, log, ...pace });
    const former = await lease.win(signal);
    try {
      // Before anything is read: what is read from now on, nobody else changes any more. The lease is long enough for it.
      const term = await store.raiseTerm();
      lease.hold(onLost);
      return { lease, term, former };
    } catch (error) {
      await lease.resign();
      // Won by a lease that was over when the store heard of it, or a store that is away: the next round tells.
      if (!isAway(error) && !(error instanceof FnError && error.code === 'not-leader')) throw error;
      log.warn({ candidate, error: error.message }, 'the term could not be raised: giving up the lease and standing by again');
      await sleep(raiseAgainMs, signal);
    }
  }
}
