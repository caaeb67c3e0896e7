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

/** Of a key in events.db, with its index: 1.69 MB for 10,248 of them. */
const KEY_BYTES = 165;

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
// A run that did not look at its keys made one for each invocation and each tick.
const [first, last] = [found.samples[0]!, found.samples.at(-1)!];
const keys = (found.events['async: acknowledged'] ?? 0) + (found.events['ticks of the schedule'] ?? 0);
const samples = found.samples.map((sample) => ({
  ...sample,
  keysMib: sample.keysMib ?? (((sample.at - first.at) / (last.at - first.at)) * keys * KEY_BYTES) / 1_048_576,
}));
const series = seriesOf(samples, settleMs);
const { strange, rows } = failureVerdicts(failures, found.strikes, found.samples, found.machine.cores);
const fresh = [...rows, flatVerdict(series)];
const old = found.verdicts.filter(({ what }) => !fresh.some((row) => row.what === what) && !what.startsWith('all good in the last'));
const result: SoakResult = { ...found, series, unexpected: strange, verdicts: [...old, ...fresh] };
const beside = (ending: string) => file.replace(/\.full\.json$/, ending);
writeFileSync(beside('.json'), condensed(result));
writeFileSync(beside('.md'), markdown(result));
process.stdout.write(`${markdown(result)}\n`);
process.exitCode = result.verdicts.every(({ good }) => good) ? 0 : 1;
