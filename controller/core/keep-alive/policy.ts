/**
 * Keep-alive policies: plain functions of a function's history that say for how long its last idle instance stays, and whether one is
 * brought up again before the next use. The platform and `npm run simulate` ask the same functions.
 */
import type { IdleHistory } from './history.ts';

/** Times from when the function became idle, ms. Outside of both ranges nothing is loaded. */
export interface Stay {
  /** The instance stays for so long; 0: it goes at once. */
  stayMs: number;
  /** One is there from then until then, whether or not somebody comes; null: none is brought up. */
  prewarm: { fromMs: number; untilMs: number } | null;
}

/** Must not change the history. */
export type KeepAlivePolicy = (history: IdleHistory) => Stay;

/** A fixed time, whatever happens. */
export const fixed =
  (keepMs: number): KeepAlivePolicy =>
  () => ({ stayMs: keepMs, prewarm: null });

/** Whether an instance would be there for a use that comes after so long. */
export const isKept = ({ stayMs, prewarm }: Stay, idleMs: number): boolean =>
  idleMs <= stayMs || (prewarm !== null && idleMs >= prewarm.fromMs && idleMs <= prewarm.untilMs);

/** For how long an instance is there and unused until a use that comes after so long, ms. */
export function unusedMs({ stayMs, prewarm }: Stay, idleMs: number): number {
  const before = Math.min(idleMs, stayMs);
  return prewarm === null ? before : before + Math.max(0, Math.min(idleMs, prewarm.untilMs) - prewarm.fromMs);
}

/** What was worked out from so many idle times holds until they have become more by one part in this. */
const ASK_AGAIN_PART = 16;

/** The same policy for one function, asked again only when the history has changed by a few percent. */
export function rarely(policy: KeepAlivePolicy): KeepAlivePolicy {
  let known: { stay: Stay; observed: number } | null = null;
  return (history) => {
    const { observed } = history;
    if (known === null || Math.abs(observed - known.observed) > known.observed / ASK_AGAIN_PART)
      known = { stay: policy(history), observed };
    return known.stay;
  };
}

/** With several instances the policy decides on the one that was used last; those beyond it stay for as long, but no longer than this. */
const EXCESS_KEEP_MS = 300_000;

/** For how long an idle instance stays beside another one of its function. */
export const excessKeepMs = ({ stayMs }: Stay): number => Math.min(stayMs, EXCESS_KEEP_MS);
