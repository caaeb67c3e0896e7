/** `fn stats` as tables. */
import type { FunctionStats, ResourceStats, StatsList, UsageStats } from '#contract/stats.ts';
import { formatMs, table, type Column } from './output.ts';

/** 0.42 s, 12.3 s, 3.4 h */
function formatSeconds(seconds: number): string {
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 5_999.5) return `${seconds < 99.95 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return `${(seconds / 3_600).toFixed(1)} h`;
}

/** GiB·s, in a unit that has few digits. */
function formatMemoryTime(gibSeconds: number): string {
  if (gibSeconds < 99.95) return `${gibSeconds.toFixed(gibSeconds < 9.995 ? 2 : 1)} GiB·s`;
  return gibSeconds < 5_999.5 ? `${Math.round(gibSeconds)} GiB·s` : `${(gibSeconds / 3_600).toFixed(1)} GiB·h`;
}

const percentile = (ms: number | null): string => (ms === null ? '–' : formatMs(ms));
const cold = ({ coldStarts: { pooled, full } }: UsageStats): string => `${pooled + full}`;

interface Row {
  label: string[];
  resources: ResourceStats;
  /** null: of the pool there are no calls. */
  usage: UsageStats | null;
}

function columns(titles: readonly string[]): Column<Row>[] {
  const of = (title: string, value: (usage: UsageStats) => string): Column<Row> => ({
    title,
    value: ({ usage }) => (usage === null ? '' : value(usage)),
    align: 'right',
  });
  return [
    ...titles.map((title, index) => ({ title, value: ({ label }: Row) => label[index] ?? '' })),
    of('CALLS', ({ invocations }) => `${invocations}`),
    of('ERRORS', ({ errors }) => `${errors}`),
    of('REJECTED', ({ rejected }) => `${rejected}`),
    of('COLD', cold),
    { title: 'CPU', value: ({ resources }) => formatSeconds(resources.cpuSeconds), align: 'right' },
    { title: 'RESERVED', value: ({ resources }) => formatMemoryTime(resources.memoryReservedGibSeconds), align: 'right' },
    { title: 'USED', value: ({ resources }) => formatMemoryTime(resources.memoryUsedGibSeconds), align: 'right' },
    of('P50', ({ duration }) => percentile(duration.p50Ms)),
    of('P99', ({ duration }) => percentile(duration.p99Ms)),
  ];
}

/** One that nobody ever called may never have been there: instances of a deployment that was refused have used something, too. */
const afterwards = ({ deletedAt, invocations }: FunctionStats): string =>
  deletedAt === null ? '' : invocations > 0 ? ' (deleted)' : ' (not there)';

/** One line per function; the pool's, where it is told, is the last. */
export function renderStats({ functions, pool }: StatsList): string {
  const rows: Row[] = functions.map((one) => ({
    label: [one.namespace, `${one.name}${afterwards(one)}`],
    resources: one,
    usage: one,
  }));
  if (pool !== null) rows.push({ label: ['', '(pool)'], resources: pool, usage: null });
  return table(columns(['NAMESPACE', 'NAME']), rows);
}

/** One line for each revision that is kept, and one for all there ever were. */
export function renderFunctionStats(stats: FunctionStats): string {
  const rows: Row[] = stats.revisions.map((one) => ({ label: [`${one.number}`], resources: one, usage: one }));
  return table(columns(['REVISION']), [...rows, { label: [`all${afterwards(stats)}`], resources: stats, usage: stats }]);
}
