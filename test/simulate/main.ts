/**
 * `npm run simulate -- FOLDER [--policy NAME,…] [--load] [--concurrency N] [--seed N] [--memory-mib N] [--half 1|2] [--json FILE]`
 * Replays a trace through the keep-alive policies of the platform in virtual time. docs/keep-alive.md has the results.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { COMPARED } from './policies.ts';
import { compare, compareEvictions, evictionTable, tableOf } from './report.ts';
import { halves, readTrace } from './trace.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    policy: { type: 'string' },
    load: { type: 'boolean', default: false },
    concurrency: { type: 'string', default: '50' },
    seed: { type: 'string', default: '1' },
    'memory-mib': { type: 'string' },
    half: { type: 'string' },
    json: { type: 'string' },
  },
});
const [folder, ...more] = positionals;
if (folder === undefined || more.length > 0)
  throw new Error('give one folder with a trace in the schema of the Azure Functions Trace 2019');
const [concurrency, seed] = [Number(values.concurrency), Number(values.seed)];
if (!(Number.isInteger(concurrency) && concurrency >= 1)) throw new Error('--concurrency is a whole number from 1');
if (!Number.isInteger(seed)) throw new Error('--seed is a whole number');
if (values.half !== undefined && values.half !== '1' && values.half !== '2') throw new Error('--half is 1 or 2');

const whole = await readTrace(folder);
const trace = values.half === undefined ? whole : halves(whole)[values.half === '1' ? 0 : 1];
const policies = values.policy?.split(',') ?? COMPARED;
const invocations = trace.functions.reduce((sum, traced) => sum + traced.invocations, 0);
process.stdout.write(`${trace.functions.length} functions, ${invocations.toLocaleString('en')} invocations, ${trace.minutes} minutes\n\n`);
const memoryMib = values['memory-mib'] === undefined ? null : Number(values['memory-mib']);
if (memoryMib !== null && !(memoryMib > 0)) throw new Error('--memory-mib is a number of MiB');

function run(): { table: string; lines: object[] } {
  if (memoryMib !== null) {
    const lines = compareEvictions(trace, policies, memoryMib);
    return { table: evictionTable(lines), lines };
  }
  const lines = compare(trace, policies, values.load ? { seed, concurrency } : null);
  return { table: tableOf(lines), lines };
}

const { table, lines } = run();
process.stdout.write(`${table}\n`);
if (values.json !== undefined) {
  mkdirSync(dirname(values.json), { recursive: true });
  const of = { functions: trace.functions.length, invocations, minutes: trace.minutes, load: values.load, memoryMib };
  writeFileSync(values.json, `${JSON.stringify({ ...of, lines }, null, 2)}\n`);
}
