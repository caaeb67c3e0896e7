/** What is flat, and what may fail when: plain functions over what a soak has written down. */

/** Time, ms, and a value. */
export type Point = readonly [at: number, value: number];

export interface Bound {
  /** Largest rise, as a share of the median of the second quarter. */
  share: number;
  /** Rise that is always allowed, in the series' own unit: what comes and goes by chance. */
  slack: number;
}

export interface Flatness {
  points: number;
  minutes: number;
  /** Medians of the second and the last quarter. */
  early: number;
  late: number;
  /** By Theil–Sen, per hour. */
  slopePerHour: number;
  /** What that slope makes of the whole time. */
  rise: number;
  allowed: number;
  flat: boolean;
}

/** Fewer points say nothing. */
const LEAST_POINTS = 8;
/** More pairs than of so many points take seconds and say no more. */
const MOST_POINTS = 400;

export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Every n-th of them, so that at most so many are left; the last one always. */
export function thinned<T>(items: readonly T[], most: number): T[] {
  const step = Math.ceil(items.length / most);
  return step <= 1 ? [...items] : items.filter((_, index) => (items.length - 1 - index) % step === 0);
}

/** Median of the slopes of all pairs (Theil 1950, Sen 1968): up to 29 % of the points may be anything. Per ms. */
export function theilSen(points: readonly Point[]): number {
  const some = thinned(points, MOST_POINTS);
  const slopes: number[] = [];
  for (let a = 0; a < some.length; a++)
    for (let b = a + 1; b < some.length; b++) {
      const [[from, low], [to, high]] = [some[a]!, some[b]!];
      if (to > from) slopes.push((high - low) / (to - from));
    }
  return medianOf(slopes);
}

/**
 * Flat is what rises no more than the bound, by both measures: the Theil–Sen slope over the whole time, and the median of
 * the last quarter over that of the second. One alone is fooled: the slope by a step at the end, the quarters by a wave.
 * A fall is no fault. Null where there are too few points to say.
 */
export function flatness(points: readonly Point[], { share, slack }: Bound): Flatness | null {
  if (points.length < LEAST_POINTS) return null;
  const quarter = (from: number, to: number) =>
    medianOf(points.slice(Math.floor(points.length * from), Math.ceil(points.length * to)).map(([, value]) => value));
  const [early, late] = [quarter(0.25, 0.5), quarter(0.75, 1)];
  const span = points.at(-1)![0] - points[0]![0];
  const slope = theilSen(points);
  const allowed = Math.max(share * Math.abs(early), slack);
  const rise = slope * span;
  const flat = rise <= allowed && late - early <= allowed;
  return { points: points.length, minutes: span / 60_000, early, late, slopePerHour: slope * 3_600_000, rise, allowed, flat };
}

/** The longest run of points of one process: what was started again begins anew, and its memory with it. */
export function longestLife<T extends { pid: number }>(samples: readonly T[]): T[] {
  let best: T[] = [];
  let run: T[] = [];
  for (const sample of samples) {
    if (run.length > 0 && run.at(-1)!.pid !== sample.pid) run = [];
    run.push(sample);
    if (run.length > best.length) best = run;
  }
  return best;
}

export interface Failure {
  kind: string;
  /** `502 function-crashed`, `ECONNRESET`, or what was wrong with the answer. */
  what: string;
  /** When it was sent and when it failed, ms since 1970. */
  from: number;
  to: number;
}

export interface FaultWindow {
  fault: string;
  from: number;
  to: number;
}

/** What a fault may do to whom: kind of traffic → what is said. `*` is every kind. */
export type Allowance = Readonly<Record<string, RegExp>>;

/** Those failures that no fault explains: outside of all windows, or not what the fault may do. */
export function unexpected(
  failures: readonly Failure[],
  windows: readonly FaultWindow[],
  allowed: Readonly<Record<string, Allowance>>,
): Failure[] {
  return failures.filter(
    ({ kind, what, from, to }) =>
      !windows.some((window) => {
        if (to < window.from || from > window.to) return false;
        const allowance = allowed[window.fault];
        return [allowance?.[kind], allowance?.['*']].some((pattern) => pattern?.test(what));
      }),
  );
}

/** From so many processes that want each core on, the machine starves whoever runs on it: a command of a second takes minutes. */
const STARVED_PER_CORE = 20;
/** The load average tells of the minute before it. */
const LOAD_AVERAGE_MS = 60_000;

/** Times in which the machine, busy with something else, did not let anything run as it should. */
export function starvedTimes(samples: readonly { at: number; load: number }[], cores: number): { from: number; to: number }[] {
  return samples.filter(({ load }) => load >= STARVED_PER_CORE * cores).map(({ at }) => ({ from: at - LOAD_AVERAGE_MS, to: at }));
}

/** What the soak's own patience says, and no part of the platform: of WebSockets, commands, and requests (Node’s codes of an AbortSignal’s timeout). */
const OWN_LIMIT = /did not come; there is|did not end within \d+ ms|TimeoutError|aborted due to timeout|^ABORT_ERR$|^23$/;
/** How long a new secret may take to be everywhere, from the end of the command on, ms. */
const SECRET_SETTLES_MS = 60_000;

/**
 * Failures that say nothing of the platform: the soak's patience was over while the machine starved; who changed a function at the
 * same time as somebody else was told so (docs/cli.md), and who went back further than there are revisions, too; a secret has its old value while the command that sets it is under way.
 */
export function harmless(failures: readonly Failure[], starved: readonly { from: number; to: number }[]): Set<Failure> {
  const within = ({ from, to }: Failure, times: readonly { from: number; to: number }[]) =>
    times.some((time) => from <= time.to && to >= time.from);
  const setting = failures.filter(({ kind }) => kind === 'secret set').map(({ from, to }) => ({ from, to: to + SECRET_SETTLES_MS }));
  const isOldSecret = ({ kind, what }: Failure) => kind === 'secret' && what.startsWith('the secret is ');
  return new Set(
    failures.filter(
      (failure) =>
        // That a secret is the new one by now is patience, too.
        ((OWN_LIMIT.test(failure.what) || isOldSecret(failure)) && within(failure, starved)) ||
        (failure.kind === 'rollback' && /precondition-failed|no revision before \d+ is kept/.test(failure.what)) ||
        (isOldSecret(failure) && within(failure, setting)),
    ),
  );
}

/** Ticks of a schedule that are missing between the first and the last one. */
export function missingTicks(seen: ReadonlySet<number>, everyMs: number): number[] {
  const [first, last] = [Math.min(...seen), Math.max(...seen)];
  const missing: number[] = [];
  for (let tick = first; tick <= last; tick += everyMs) if (!seen.has(tick)) missing.push(tick);
  return missing;
}
