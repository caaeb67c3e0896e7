/**
 * `npm run sim [-- --only size|knee] [--functions N --instances N --cold N --gateways N] [--seconds N] [--prof FOLDER] [--json FILE]`
 * The controller against an imaginary cluster: what it costs as the numbers grow, and where it breaks. docs/size.md has the results.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { machine } from '../bench/host.ts';
import { ROOT } from '../helpers/root.ts';
import { misused, scriptArgs } from '../helpers/script.ts';
import { kneeTable, linkTable, sizeTable } from './report.ts';
import { simulate, type RunResult } from './run.ts';
import type { Shape } from './shape.ts';

const USAGE =
  'npm run sim [-- --only size|knee] [--functions N --instances N --cold N --gateways N] [--seconds N] [--prof FOLDER] [--json FILE]   (docs/size.md)';
const { values } = scriptArgs(USAGE, {
  options: {
    only: { type: 'string' },
    functions: { type: 'string' },
    instances: { type: 'string' },
    cold: { type: 'string' },
    gateways: { type: 'string' },
    deploys: { type: 'string' },
    seconds: { type: 'string', default: '15' },
    seed: { type: 'string', default: '1' },
    prof: { type: 'string' },
    json: { type: 'string' },
  },
});
if (values.only !== undefined && values.only !== 'size' && values.only !== 'knee') misused('--only is size or knee', USAGE);
const seconds = Number(values.seconds);
if (!(seconds >= 1 && seconds <= 600)) misused('--seconds is a number from 1 to 600', USAGE);

const BASE = { revisions: 3, skew: 0.6, concurrency: 10, serviceMs: 40, seed: Number(values.seed), seconds };
const shape = (functions: number, instances: number, coldPerSecond: number, gateways: number, deploysPerSecond = 1): Shape => {
  // Twice the linger, about: then as many go as come.
  const warmUpSeconds = Math.max(10, Math.ceil((2.5 * instances) / coldPerSecond));
  return { ...BASE, functions, instances, coldPerSecond, gateways, deploysPerSecond, warmUpSeconds };
};
const SIZES = [shape(1_000, 500, 50, 2), shape(3_000, 1_500, 150, 6), shape(10_000, 5_000, 500, 20)];
/** 10,000 functions and 20 gateways, and more and more cold starts of instances that are up for ten seconds, or as many as there can be. */
const KNEE = [250, 500, 750, 1_000, 1_500, 2_000].map((cold) => shape(10_000, Math.min(6_000, cold * 10), cold, 20));

const say = (line: string) => process.stderr.write(`${line}\n`);
const nodeFlags = values.prof === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${resolve(values.prof)}`];

async function run(each: Shape, upheavals: boolean): Promise<RunResult> {
  say(`— ${each.functions} functions, ${each.instances} instances, ${each.coldPerSecond} cold starts/s, ${each.gateways} gateways`);
  const result = await simulate(each, { upheavals, nodeFlags });
  const { controller, traffic } = result;
  const failed = Object.values(traffic.failed).reduce((sum, count) => sum + count, 0);
  say(
    `  ${traffic.requestsPerSecond.toFixed(0)} requests/s, ${(controller.claims / controller.seconds).toFixed(0)} cold/s, CPU ${controller.cpu.toFixed(2)}, pass p50 ${controller.passes.ms.p50.toFixed(2)} ms, cold p50 ${traffic.kinds.pooled.waitMs.p50.toFixed(0)} ms, failed ${failed}`,
  );
  return result;
}

const host = await machine();
const results: { size: RunResult[]; knee: RunResult[] } = { size: [], knee: [] };
if (values.functions !== undefined) {
  const [functions, instances, cold, gateways] = [values.functions, values.instances, values.cold, values.gateways].map(Number);
  if (![functions, instances, cold, gateways].every((each) => each! > 0)) misused('give --functions --instances --cold --gateways', USAGE);
  results.size.push(await run(shape(functions!, instances!, cold!, gateways!, Number(values.deploys ?? 1)), true));
} else {
  if (values.only !== 'knee') for (const each of SIZES) results.size.push(await run(each, true));
  if (values.only !== 'size') for (const each of KNEE) results.knee.push(await run(each, false));
}

const file = resolve(values.json ?? join(ROOT, 'bench-results', `${host.date.replaceAll(':', '-').slice(0, 19)}-sim.json`));
mkdirSync(dirname(file), { recursive: true });
writeFileSync(file, `${JSON.stringify({ machine: host, ...results }, null, 2)}\n`);
if (results.size.length > 0) process.stdout.write(`\n${sizeTable(results.size)}\n\n${linkTable(results.size)}\n`);
if (results.knee.length > 0) process.stdout.write(`\n${kneeTable(results.knee)}\n`);
process.stdout.write(`\n${file}\n`);
