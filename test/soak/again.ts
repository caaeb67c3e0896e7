/**
 * `node test/soak/again.ts FILE.full.json`: judges a soak once more, by the rules as they are now, and writes its result
 * beside it. What was counted while it ran (events, ticks, what `fn down` left) stays as it was found.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Failure } from './judge.ts';
import { type SoakResult, condensed, markdown, seriesOf } from './report.ts';
import { failureVerdicts, flatVerdict } from './verdict.ts';

/** Of runs that did not write it down: that of two hours. */
const SETTLE_MS = 12 * 60_000;

const file = process.argv[2];
if (file === undefined || !file.endsWith('.full.json')) throw new Error('which FILE.full.json?');
const {
  failures,
  settleMs = SETTLE_MS,
  ...found
} = JSON.parse(readFileSync(file, 'utf8')) as SoakResult & {
  failures: Failure[];
  settleMs?: number;
};
const series = seriesOf(found.samples, settleMs);
const { strange, rows } = failureVerdicts(failures, found.strikes, found.samples, found.machine.cores);
const fresh = [...rows, flatVerdict(series)];
const old = found.verdicts.filter(({ what }) => !fresh.some((row) => row.what === what) && !what.startsWith('all good in the last'));
const result: SoakResult = { ...found, series, unexpected: strange, verdicts: [...old, ...fresh] };
const beside = (ending: string) => file.replace(/\.full\.json$/, ending);
writeFileSync(beside('.json'), condensed(result));
writeFileSync(beside('.md'), markdown(result));
process.stdout.write(`${markdown(result)}\n`);
process.exitCode = result.verdicts.every(({ good }) => good) ? 0 : 1;
