/**
 * `npm run simulate -- FOLDER [--policy NAME,…] [--load] [--concurrency N] [--seed N] [--memory-mib N] [--half 1|2] [--json FILE]`
 * Replays a trace through the keep-alive policies of the platform in virtual time. docs/keep-alive.md has the results.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { misused, scriptArgs } from '../helpers/script.ts';
import { COMPARED, policyOf } from './policies.ts';
import { compare, compareEvictions, evictionTable, tableOf } from './report.ts';
import { halves, readTrace, TraceError } from './trace.ts';

const USAGE =
  'npm run simulate -- FOLDER [--policy NAME,…] [--load] [--concurrency N] [--seed N] [--memory-mib N] [--half 1|2] [--json FILE]   (docs/keep-alive.md)';
const { values, positionals } = scriptArgs(USAGE, {
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
if (folder === undefined || more.length > 0) misused('give one folder with a trace in the schema of the Azure Functions Trace 2019', USAGE);
const [concurrency, seed] = [Number(values.concurrency), Number(values.seed)];
if (!(Number.isInteger(concurrency) && concurrency >= 1)) misused('--concurrency is a whole number from 1', USAGE);
if (!Number.isInteger(seed)) misused('--seed is a whole number', USAGE);
if (values.half !== undefined && values.half !== '1' && values.half !== '2') misused('--half is 1 or 2', USAGE);
const memoryMib = values['memory-mib'] === undefined ? null : Number(values['memory-mib']);
if (memoryMib !== null && !(memoryMib > 0)) misused('--memory-mib is a number of MiB', USAGE);
const policies = values.policy?.split(',') ?? COMPARED;
for (const name of policies) {
  try {
    policyOf(name);
  } catch (error) {
    misused(`--policy: ${error instanceof Error ? error.message : String(error)}`, USAGE);
  }
}

const whole = await readTrace(folder).catch((error: unknown) => {
  if (error instanceof TraceError) misused(error.message, USAGE);
  throw error;
});
const trace = values.half === undefined ? whole : halves(whole)[values.half === '1' ? 0 : 1];
const invocations = trace.functions.reduce((sum, traced) => sum + traced.invocations, 0);
process.stdout.write(`${trace.functions.length} functions, ${invocations.toLocaleString('en')} invocations, ${trace.minutes} minutes\n\n`);

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
