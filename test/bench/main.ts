/**
 * `npm run bench [-- --driver docker|process|kubernetes] [--only GROUP,…] [--effort 0.3] [--json FILE] [--strict] [--cpu-prof]`
 * Measures what the platform promises, each figure beside the same thing without the platform, in
 * interleaved rounds. Exit 0 where every measurement could be taken; --strict: and every mark is met.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ROOT } from '../helpers/root.ts';
import { misused, scriptArgs } from '../helpers/script.ts';

const USAGE =
  'npm run bench [-- --driver docker|process|kubernetes] [--only GROUP,…] [--effort 0.3] [--json FILE] [--strict] [--cpu-prof]   (docs/benchmarks.md)';
const { values } = scriptArgs(USAGE, {
  options: {
    driver: { type: 'string', default: 'docker' },
    only: { type: 'string' },
    effort: { type: 'string', default: '1' },
    json: { type: 'string' },
    strict: { type: 'boolean', default: false },
    'cpu-prof': { type: 'boolean', default: false },
  },
});
const { driver } = values;
if (driver !== 'docker' && driver !== 'process' && driver !== 'kubernetes') misused('--driver is docker, process or kubernetes', USAGE);
const effort = Number(values.effort);
if (!(effort > 0 && effort <= 10)) misused('--effort is a number above 0, at most 10', USAGE);

// Before the harness is loaded, which reads it.
const folder = mkdtempSync('/tmp/fnb-');
process.env.FN_TEST_FOLDER = folder;
mkdirSync(join(folder, 't'));

const { removeNamespaces } = await import('../helpers/kube.ts');
const { startPlatform } = await import('../helpers/platform.ts');
const { burstMany, burstOne } = await import('./burst.ts');
const { codeCache } = await import('./code-cache.ts');
const { coldFull, coldPaced, coldPooled } = await import('./cold.ts');
const { atTheDesk } = await import('./desk.ts');
const { eventFigures } = await import('./events.ts');
const { closeConnections } = await import('./context.ts');
const { gatewayByItself } = await import('./gateway.ts');
const { machine } = await import('./host.ts');
const { kubeCold, kubeFull, kubeRefill, kubeRequests, kubeWarm } = await import('./kubernetes.ts');
const { table } = await import('./report.ts');
const { neighbour, sandbox } = await import('./neighbour.ts');
const { deployFirst, memoryAtRest } = await import('./rest.ts');
const { coldSlope } = await import('./slope.ts');
const { warmLatency, warmThroughput } = await import('./warm.ts');

const ON_HOST = [
  coldPooled,
  coldPaced,
  coldFull,
  codeCache,
  warmLatency,
  warmThroughput,
  gatewayByItself,
  burstOne,
  burstMany,
  coldSlope,
  deployFirst,
  atTheDesk,
  memoryAtRest,
  eventFigures,
  neighbour,
  sandbox,
];
/** What is one on all drivers is measured where it costs least to look: on a cluster only what differs there. */
const ON_CLUSTER = [kubeCold, kubeFull, kubeWarm, kubeRefill, kubeRequests];
const ALL = driver === 'kubernetes' ? ON_CLUSTER : ON_HOST;
const only = values.only?.split(',');
const chosen = only ? ALL.filter(({ group }) => only.includes(group)) : ALL;
const unknown = (only ?? []).filter((name) => !ALL.some(({ group }) => group === name));
if (unknown.length > 0) {
  rmSync(folder, { recursive: true, force: true });
  misused(`--only: there is no group ${unknown.join(', ')}; there are ${ALL.map(({ group }) => group).join(', ')}`, USAGE);
}

const say = (line: string) => process.stderr.write(`${line}\n`);
const host = await machine();
say(
  `${host.cpu}, ${host.cores} cores, ${host.memoryMib} MiB, Linux ${host.kernel}, cgroup ${host.cgroup}, Docker ${host.engine}, runc ${host.runc}, Node ${host.node}`,
);
if (host.loadBefore > 0.5 * host.cores) say(`the machine is busy: load ${host.loadBefore}`);

const started: Awaited<ReturnType<typeof startPlatform>>[] = [];
const start = async (env: Record<string, string>) => {
  const platform = await startPlatform({ driver, env: { FN_LOG_LEVEL: 'warn', ...env } });
  started.push(platform);
  return platform;
};
const closers: (() => Promise<void> | void)[] = [];
const end = async () => {
  closeConnections();
  for (const platform of started.splice(0)) for (const left of await platform.dispose()) say(`left behind: ${left}`);
  for (const close of closers.splice(0).toReversed()) await close();
  for (const left of await removeNamespaces(folder)) say(left);
  rmSync(folder, { recursive: true, force: true });
};
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void end().then(() => process.exit(130)));

const figures = [];
const broken: { group: string; error: string }[] = [];
try {
  const platform = await start({});
  for (const { group, run } of chosen) {
    say(`— ${group}`);
    try {
      figures.push(
        ...(await run({ driver, platform, start, defer: (close) => closers.push(close), effort, profile: values['cpu-prof'], say })),
      );
    } catch (error) {
      broken.push({ group, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
      say(`${group} could not be measured: ${broken.at(-1)!.error}`);
    }
  }
} finally {
  await end();
}

const file = resolve(values.json ?? join(ROOT, 'bench-results', `${host.date.replaceAll(':', '-').slice(0, 19)}-${driver}.json`));
mkdirSync(dirname(file), { recursive: true });
writeFileSync(file, `${JSON.stringify({ machine: host, driver, effort, figures, broken }, null, 2)}\n`);
process.stdout.write(`\n${table(figures)}\n\n`);
for (const { group, error } of broken) process.stdout.write(`${group}: not measured, ${error.split('\n')[0]}\n`);
const missed = figures.filter(({ mark }) => mark && !mark.met);
process.stdout.write(`${figures.filter(({ mark }) => mark?.met).length} marks met, ${missed.length} missed. ${file}\n`);
if (broken.length > 0 || (values.strict && missed.length > 0)) process.exitCode = 1;
