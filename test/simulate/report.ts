/** What a comparison says, for people and as JSON. */
import { BASE, policyOf } from './policies.ts';
import { quantile, replay, type Replay } from './replay.ts';
import { replayLoad, type LoadOptions } from './replay-load.ts';
import { replayMemory } from './replay-memory.ts';
import type { Trace } from './trace.ts';

export interface Line {
  policy: string;
  /** Percent of the invocations of the median function, and of that at the third quartile. */
  coldMedian: number;
  coldThirdQuartile: number;
  coldPer100: number;
  /** Time that instances were there and unused; a fixed keep-alive of ten minutes is 100. */
  waste: number;
  coldStarts: number;
  prewarmed: number;
  /** The same as `waste`, with each start counted as a minute. */
  wasteWithStarts: number;
}

/** `load`: with times inside of the minutes; else by the rules of the published comparison. */
export function compare(trace: Trace, policies: readonly string[], load: LoadOptions | null = null): Line[] {
  const run = (name: string): Replay => (load === null ? replay(trace, policyOf(name)) : replayLoad(trace, policyOf(name), load));
  const base = run(BASE);
  return policies.map((policy) => lineOf(policy, policy === BASE ? base : run(policy), base));
}

function lineOf(policy: string, of: Replay, base: Replay): Line {
  const withStarts = ({ unusedMinutes, coldStarts, prewarmed }: Replay) => unusedMinutes + coldStarts + prewarmed;
  return {
    policy,
    coldMedian: quantile(of.coldPercent, 0.5),
    coldThirdQuartile: quantile(of.coldPercent, 0.75),
    coldPer100: (100 * of.coldStarts) / of.invocations,
    waste: (100 * of.unusedMinutes) / base.unusedMinutes,
    coldStarts: of.coldStarts,
    prewarmed: of.prewarmed,
    wasteWithStarts: (100 * withStarts(of)) / withStarts(base),
  };
}

const COLUMNS: readonly [string, (line: Line) => string][] = [
  ['policy', ({ policy }) => policy],
  ['cold % of the median function', ({ coldMedian }) => coldMedian.toFixed(1)],
  ['of the third quartile', ({ coldThirdQuartile }) => coldThirdQuartile.toFixed(1)],
  ['cold starts per 100', ({ coldPer100 }) => coldPer100.toFixed(3)],
  ['waste', ({ waste }) => waste.toFixed(0)],
  ['cold starts', ({ coldStarts }) => coldStarts.toLocaleString('en')],
  ['prewarmed', ({ prewarmed }) => prewarmed.toLocaleString('en')],
  ['waste with starts', ({ wasteWithStarts }) => wasteWithStarts.toFixed(0)],
];

/** On a host with so much memory: whose instance goes makes the difference. */
export function compareEvictions(trace: Trace, policies: readonly string[], limitMib: number): EvictionLine[] {
  return policies.flatMap((policy) =>
    (['idle', 'gdsf'] as const).map((order) => {
      const of = replayMemory(trace, policyOf(policy), limitMib, order);
      return { policy, order, coldPer100: (100 * of.coldStarts) / of.invocations, coldStarts: of.coldStarts, evicted: of.evicted };
    }),
  );
}

export interface EvictionLine {
  policy: string;
  order: 'idle' | 'gdsf';
  coldPer100: number;
  coldStarts: number;
  evicted: number;
}

export const evictionTable = (lines: readonly EvictionLine[]): string =>
  markdown([
    ['policy', 'who goes', 'cold starts per 100', 'cold starts', 'evicted'],
    ...lines.map(({ policy, order, coldPer100, coldStarts, evicted }) => [
      policy,
      order,
      coldPer100.toFixed(3),
      coldStarts.toLocaleString('en'),
      evicted.toLocaleString('en'),
    ]),
  ]);

/** What compare() found, for people. */
export const tableOf = (lines: readonly Line[]): string =>
  markdown([COLUMNS.map(([head]) => head), ...lines.map((line) => COLUMNS.map(([, text]) => text(line)))]);

/** The first row is the head. */
function markdown(rows: readonly string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const text = (row: readonly string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  const [head = [], ...body] = rows;
  return [text(head), text(widths.map((width) => '-'.repeat(width))), ...body.map(text)].join('\n');
}
