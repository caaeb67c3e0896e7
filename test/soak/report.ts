/** What a soak found, as lines for people and as JSON. */
import type { Machine } from '../bench/host.ts';
import { PARTS, type Sample } from './census.ts';
import { type Bound, type Failure, type Flatness, type Point, flatness, longestLife, thinned } from './judge.ts';

/** Samples that are kept in the JSON beside the verdict. */
const SAMPLES_KEPT = 40;

export interface Series {
  name: string;
  unit: string;
  flatness: Flatness | null;
}

export interface Strike {
  fault: string;
  from: number;
  to: number;
  error?: string;
}

export interface Verdict {
  what: string;
  good: boolean;
  found: string;
}

export interface SoakResult {
  date: string;
  commit: string;
  minutes: number;
  driver: string;
  machine: Machine;
  ended: string;
  requests: Record<string, { good: number; bad: number }>;
  events: Record<string, number>;
  strikes: Strike[];
  series: Series[];
  verdicts: Verdict[];
  unexpected: Failure[];
  wrong: string[];
  samples: Sample[];
}

/** Memory: 10 % or 8 MiB, since V8 gives back what it took only when it must. */
const MEMORY: Bound = { share: 0.1, slack: 8 };
/**
 * Of a life so much at its begin is not judged of memory, where that is longer than the settling time. What a process keeps by
 * limits of its own (pages of SQLite, arenas of the allocator, compiled code, V8's generations) fills ever more slowly, for three
 * quarters of an hour at forty requests a second, while its heap after a forced collection is the same after each round of equal
 * work (last-result.md). A leak goes on as it began: in the three quarters of an hour that are left of the shortest of the lives
 * that are looked at, 100 bytes a request are the 8 MiB that are allowed, and a KiB a request is ten times that.
 */
const FILLING_SHARE = 0.4;
/** Counts that follow the traffic of the moment. */
const COUNT: Bound = { share: 0.15, slack: 6 };
/** What has limits, in MiB. */
const STORE: Bound = { share: 0.15, slack: 2 };
/** Its keys of idempotency are kept for a day: what else is in it must be flat. */
const EVENTS = 'home/events.db';

/**
 * All series of the samples. Of what a process holds only its longest life counts, without the settling time at its
 * begin, and of memory without FILLING_SHARE: memory that a killed process took with it proves nothing.
 */
export function seriesOf(samples: readonly Sample[], settleMs: number): Series[] {
  const found: Series[] = [];
  const add = (name: string, unit: string, points: Point[], bound: Bound, fillingShare = 0) => {
    const [from, to] = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 0];
    const begin = from + Math.max(settleMs, (to - from) * fillingShare);
    found.push({
      name,
      unit,
      flatness: flatness(
        points.filter(([at]) => at >= begin),
        bound,
      ),
    });
  };
  for (const part of PARTS) {
    const life = longestLife(samples.flatMap(({ at, parts }) => (parts[part] === undefined ? [] : [{ at, ...parts[part] }])));
    // Not the proportional share (PSS): it rises in a process in which nothing changes whenever another program that maps the same
    // Node ends. All that is mapped, and what is its own, rise only by what it does itself.
    for (const field of ['rssMib', 'anonMib'] as const)
      add(
        `${part} ${field.slice(0, -3)}`,
        'MiB',
        life.map((sample) => [sample.at, sample[field]]),
        MEMORY,
        FILLING_SHARE,
      );
    for (const field of ['fds', 'threads'] as const)
      add(
        `${part} ${field}`,
        '',
        life.map((sample) => [sample.at, sample[field]]),
        COUNT,
      );
  }
  const groups = [
    ['', 'host', '', COUNT],
    ['files ', 'files', '', COUNT],
    ['disk ', 'mib', 'MiB', STORE],
    ['redis ', 'redis', '', COUNT],
  ] as const;
  for (const [prefix, group, unit, bound] of groups) {
    const keys = [...new Set(samples.flatMap((sample) => Object.keys(sample[group])))].toSorted();
    for (const key of keys) {
      const points = samples.flatMap((sample): Point[] => {
        const value = sample[group][key];
        if (value === undefined) return [];
        if (group !== 'mib' || key !== EVENTS) return [[sample.at, value]];
        return sample.keysMib === undefined ? [] : [[sample.at, value - sample.keysMib]];
      });
      add(`${prefix}${key}${group === 'mib' && key === EVENTS ? ' without keys' : ''}`, unit, points, bound);
    }
  }
  return found;
}

const number = (value: number) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(1));

export function markdown(result: SoakResult): string {
  const { machine } = result;
  const rows = result.series.flatMap(({ name, unit, flatness: found }) =>
    found === null || (found.early === 0 && found.late === 0)
      ? []
      : [
          `| ${name} | ${number(found.early)} | ${number(found.late)} | ${number(found.rise)} | ${number(found.allowed)} ${unit} | ${found.flat ? 'flat' : '**rises**'} |`,
        ],
  );
  const strikes = new Map<string, number>();
  for (const { fault } of result.strikes) strikes.set(fault, (strikes.get(fault) ?? 0) + 1);
  return [
    '# The last soak',
    '',
    `${result.date.slice(0, 16).replace('T', ' ')} UTC, commit ${result.commit}, ${result.minutes.toFixed(0)} minutes on the driver ${result.driver}, ended by ${result.ended}. ${machine.cpu}, ${machine.cores} cores, ${machine.memoryMib} MiB, Linux ${machine.kernel}, cgroup ${machine.cgroup}, Docker ${machine.engine}, runc ${machine.runc}, Node ${machine.node}.`,
    '',
    '| verdict | | |',
    '|---|---|---|',
    ...result.verdicts.map(({ what, good, found }) => `| ${what} | ${good ? 'yes' : '**no**'} | ${found} |`),
    '',
    '| traffic | good | bad |',
    '|---|--:|--:|',
    ...Object.entries(result.requests).map(([kind, { good, bad }]) => `| ${kind} | ${good} | ${bad} |`),
    '',
    '| events | |',
    '|---|--:|',
    ...Object.entries(result.events).map(([what, count]) => `| ${what} | ${count} |`),
    '',
    '| fault | times |',
    '|---|--:|',
    ...[...strikes].map(([fault, times]) => `| ${fault} | ${times} |`),
    '',
    'Medians of the second and of the last quarter, and the rise by the Theil–Sen slope over the whole time; of a process, over its longest life, of memory without the first two fifths of it. More than is allowed, by either, is no longer flat.',
    '',
    '| what | second quarter | last quarter | rise | allowed | |',
    '|---|--:|--:|--:|--:|---|',
    ...rows,
    '',
  ].join('\n');
}

/** Small enough to be kept beside the script: some of the samples, and no more digits than mean something. */
export function condensed(result: SoakResult): string {
  const small = { ...result, unexpected: result.unexpected.slice(0, 100), samples: thinned(result.samples, SAMPLES_KEPT) };
  const short = (_key: string, value: unknown) =>
    typeof value === 'number' && !Number.isInteger(value) ? Math.round(value * 100) / 100 : value;
  // A line for each sample and each series.
  const lines = (items: readonly unknown[]) => items.map((item) => JSON.stringify(item, short)).join(',\n');
  const { samples, series, ...rest } = small;
  return `{"run": ${JSON.stringify(rest, short, 1)},\n"series": [\n${lines(series)}\n],\n"samples": [\n${lines(samples)}\n]}\n`;
}
