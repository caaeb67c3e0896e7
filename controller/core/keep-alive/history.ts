/**
 * What is remembered of how long a function was idle between one use and the next: a histogram of whole minutes over four hours,
 * as in Shahrad et al., "Serverless in the Wild" (USENIX ATC 2020), and the last few idle times as they were. Some 600 bytes a
 * function, whatever it does.
 */

/** Width of a bin, ms. */
export const BIN_MS = 60_000;
/** Bins of one minute each: four hours. */
export const BINS = 240;
/** So many idle times at most are held; then each bin is halved, so that what was long ago counts ever less. */
export const MAX_HELD = 2_000;
/** Of the last idle times, so many are known as they were. */
export const RECENT = 10;

export interface IdleHistory {
  /** Idle times by whole minutes: bin n holds those of n to n + 1 minutes. */
  readonly bins: Uint16Array;
  /** Those of four hours and more. */
  beyond: number;
  /** The newest last, ms. */
  readonly recent: number[];
  /** Raised by each that is observed: what was worked out from the history holds for one count. */
  observed: number;
}

export const newHistory = (): IdleHistory => ({ bins: new Uint16Array(BINS), beyond: 0, recent: [], observed: 0 });

/** Idle times that the histogram holds, those beyond it too. */
export function held({ bins, beyond }: IdleHistory): number {
  let total = beyond;
  for (const count of bins) total += count;
  return total;
}

/** The function was used again after so long. */
export function observe(history: IdleHistory, idleMs: number): void {
  const { bins, recent } = history;
  const bin = Math.floor(Math.max(0, idleMs) / BIN_MS);
  if (bin < BINS) bins[bin]! += 1;
  else history.beyond += 1;
  recent.push(Math.max(0, Math.round(idleMs)));
  if (recent.length > RECENT) recent.shift();
  history.observed += 1;
  // `observed` never falls, and between two halvings as many are observed as the halving has taken away.
  if (history.observed % (MAX_HELD / 2) === 0 && held(history) >= MAX_HELD) forgetHalf(history);
}

function forgetHalf(history: IdleHistory): void {
  for (let bin = 0; bin < BINS; bin += 1) history.bins[bin]! >>= 1;
  history.beyond >>= 1;
}

/** As text for a store: `[[bin, count, …], beyond, [recent, …], observed]`, bins that are empty left out. */
export function historyText({ bins, beyond, recent, observed }: IdleHistory): string {
  const pairs: number[] = [];
  for (const [bin, count] of bins.entries()) if (count > 0) pairs.push(bin, count);
  return JSON.stringify([pairs, beyond, recent, observed]);
}

/** The opposite of historyText(); null for what is none. */
export function historyFrom(text: string): IdleHistory | null {
  let stored: unknown;
  try {
    stored = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(stored)) return null;
  const [pairs, beyond, recent, observed] = stored as unknown[];
  if (!isCounts(pairs) || !isCounts(recent) || !isCount(beyond) || !isCount(observed) || pairs.length % 2 === 1) return null;
  const history = newHistory();
  for (let index = 0; index < pairs.length; index += 2) {
    const [bin = BINS, count = 0] = pairs.slice(index, index + 2);
    if (bin >= BINS || count > MAX_HELD * 2) return null;
    history.bins[bin] = count;
  }
  history.beyond = beyond;
  history.observed = observed;
  history.recent.push(...recent.slice(-RECENT));
  return history;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
const isCounts = (value: unknown): value is number[] => Array.isArray(value) && value.every(isCount);
