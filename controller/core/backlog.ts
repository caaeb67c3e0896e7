/** How many calls at a time a backlog deserves. Pure. */

/** A backlog is to be worked off within this, beside what goes on arriving, seconds. */
export const DRAIN_TARGET_SECONDS = 30;
/** Calls at a time grow at most by this factor from one decision to the next, so that a first guess of the service time costs little. */
export const GROWTH = 2;

export interface Backlog {
  /** Events that wait; null: the source does not tell. */
  lag: number | null;
  /** Events of one call, as they came lately; at least 1. */
  perCall: number;
  /** Events that arrive, per second. */
  arrivalsPerSecond: number;
  /** Moving average of the time of one call, ms; 0 where there was none yet. */
  serviceMs: number;
  /** Calls at a time that were allowed so far. */
  current: number;
  /** All of them were in use when this was asked. */
  saturated: boolean;
  /** Calls at a time that need no instance beside the first; 1 where nobody knows. */
  least?: number;
  /** Never more: what the instances can take, and what the trigger says. */
  most: number;
}

/**
 * Little's law: calls at a time = calls per second × time of one. Calls per second are those that arrive, and those
 * that work off the lag within DRAIN_TARGET_SECONDS. A source that does not tell its lag is given more for as long as
 * it uses all that it has. At least `least`: who has nothing to do calls nobody. While something waits and all are in use it is
 * not taken back: otherwise the pace would fall with the backlog, and its end come ever later.
 *
 * Worked: 3,000 wait, 20 arrive per second, 10 a call, 200 ms a call → (20 + 100) ÷ 10 × 0.2 = 2.4 → 3.
 */
export function wantedCalls({ lag, perCall, arrivalsPerSecond, serviceMs, current, saturated, least = 1, most }: Backlog): number {
  const floor = Math.max(1, least);
  const grown = Math.max(floor, Math.ceil(current * GROWTH));
  const bounded = (calls: number) => Math.max(1, Math.min(most, Math.max(floor, calls)));
  if (lag === null) return bounded(saturated ? grown : current - 1);
  if (serviceMs === 0) return bounded(lag > perCall && saturated ? grown : current);
  const callsPerSecond = (arrivalsPerSecond + lag / DRAIN_TARGET_SECONDS) / Math.max(1, perCall);
  const wanted = Math.min(grown, Math.ceil((callsPerSecond * serviceMs) / 1_000));
  return bounded(saturated && lag > perCall ? Math.max(wanted, current) : wanted);
}
