/**
 * `npm run soak [-- --minutes 120] [--driver docker|process] [--json FILE]`
 * A platform of its own under mixed traffic, with a fault every few minutes in turn: is everything that was acknowledged
 * done, does nothing fail but what the fault of the moment explains, and is everything flat at the end. Samples are
 * written as they come, beside the result (`.samples.jsonl`); Ctrl-C ends it in order, with what there is. Exit 0: all good.
 * Everything is in `.full.json`, from which again.ts judges once more.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ROOT } from '../helpers/root.ts';
import { misused, scriptArgs } from '../helpers/script.ts';

const USAGE = 'npm run soak [-- --minutes 120] [--driver docker|process] [--json FILE]';
const { values } = scriptArgs(USAGE, {
  options: {
    minutes: { type: 'string', default: '120' },
    driver: { type: 'string', default: 'docker' },
    json: { type: 'string' },
  },
});
const { driver } = values;
if (driver !== 'docker' && driver !== 'process') misused('--driver is docker or process', USAGE);
const minutes = Number(values.minutes);
if (!(minutes >= 1 && minutes <= 7 * 24 * 60)) misused('--minutes is a number from 1 to 10080', USAGE);

/** From so many minutes on a run is one to keep. */
const KEPT_FROM_MINUTES = 120;
const date = new Date().toISOString();
const file = resolve(
  values.json ??
    (minutes >= KEPT_FROM_MINUTES
      ? join(ROOT, 'test', 'soak', 'last-result.json')
      : join(ROOT, 'bench-results', `soak-${date.replaceAll(':', '-').slice(0, 19)}.json`)),
);
mkdirSync(dirname(file), { recursive: true });
const beside = (ending: string) => file.replace(/\.json$/, '') + ending;

// Before the harness is loaded, which reads it.
const folder = mkdtempSync('/tmp/fns-');
chmodSync(folder, 0o711);
process.env.FN_TEST_FOLDER = folder;
mkdirSync(join(folder, 't'));

const { machine } = await import('../bench/host.ts');
const { parentOf } = await import('../bench/host.ts');
const { summarise } = await import('../bench/stats.ts');
const { findLeaks } = await import('../helpers/leaks.ts');
const { startPlatform } = await import('../helpers/platform.ts');
const { startRedis } = await import('../helpers/redis-server.ts');
const { sleep } = await import('../helpers/wait.ts');
const { Book } = await import('./book.ts');
const { census } = await import('./census.ts');
const { faults } = await import('./faults.ts');
const { STREAM } = await import('./manifest.ts');
const { condensed, markdown, seriesOf } = await import('./report.ts');
const { Traffic } = await import('./traffic.ts');
const { verdictsOf } = await import('./verdict.ts');

const MINUTE = 60_000;
const total = minutes * MINUTE;
/** Between two faults, and between two samples: shorter in a short run, so that each is there. */
const faultEveryMs = Math.min(3 * MINUTE, total / 12);
const sampleEveryMs = Math.min(30_000, total / 40);
/** Without faults at the end: all must be well. */
const tailMs = Math.min(6 * MINUTE, total / 6);
/** In this share of the time no part is killed, so that what each holds can be looked at: other faults go on. */
const LONG_LIFE = { from: 0.35, to: 0.88 };
/** At the begin of each life nothing is judged: caches fill, V8 finds the size of its heap. */
const settleMs = Math.min(12 * MINUTE, total / 10);
/** After the end of the traffic: events that wait are done, idle instances are frozen, garbage is collected. */
const EVENTS_SETTLE_MS = 90_000;
const idleMs = Math.min(90_000, total / 4);
/** After a fault its effects may be felt for so long. */
const FELT_MS = 10_000;

/** What is kept is kept short, so that everything reaches its limit long before the end. */
const SETTINGS = {
  FN_LOG_LEVEL: 'info',
  FN_MEMORY_BUDGET_MIB: '3072',
  FN_POOL: '2',
  FN_KEEP_REVISIONS: '4',
  FN_AUDIT_KEEP: '300',
  FN_CALLS_REMEMBERED: '2000',
  FN_CALLS_KEPT: '5000',
  FN_CALLS_MAX_AGE_SECONDS: '600',
};

const say = (line: string) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);
const troubles: string[] = [];
const trouble = (what: string, error: unknown) => {
  const text = `${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  troubles.push(text.slice(0, 2_000));
  say(text);
};
// A fault in the soak itself must not cost two hours: it is told, and spoils the verdict.
process.on('uncaughtException', (error) => trouble('uncaught', error));
process.on('unhandledRejection', (error) => trouble('not awaited', error));

const end = { reason: '' };
const stopper = Promise.withResolvers<void>();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    end.reason ||= signal;
    stopper.resolve();
  });
/** Resolves early where the soak is to end. */
const pause = (ms: number) => Promise.race([sleep(Math.max(0, ms)), stopper.promise]);

const host = await machine();
const git = (...args: string[]) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
const commit = existsSync(join(ROOT, '.git'))
  ? `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ' with changes'}`
  : 'unknown';
say(`${minutes} minutes on ${driver}, commit ${commit}, pid ${process.pid}; result: ${file}`);

const book = new Book((failure) => appendFileSync(beside('.samples.jsonl'), `${JSON.stringify({ failure })}\n`));
const broker = await startRedis({ appendfsync: 'always' });
const platform = await startPlatform({ driver, env: SETTINGS });
const redis = broker.client();
const traffic = new Traffic(platform, book, redis, join(folder, 'project'));
const strikes: { fault: string; from: number; to: number; error?: string }[] = [];
const samples: Awaited<ReturnType<typeof census>>[] = [];
let left: string[] = [];
const began = Date.now();
const since = () => Date.now() - began;

async function sample(supervisor: number): Promise<void> {
  try {
    const { p50, p99 } = summarise(book.takeLatencies());
    const taken = await census({ platform, redis, stream: STREAM, supervisor, warmMs: { p50, p99 } });
    samples.push(taken);
    appendFileSync(beside('.samples.jsonl'), `${JSON.stringify(taken)}\n`);
  } catch (error) {
    trouble('a sample', error);
  }
}

async function sampling(supervisor: number): Promise<void> {
  for (let next = sampleEveryMs; end.reason === '' && next <= total; next += sampleEveryMs) {
    await pause(next - since());
    await sample(supervisor);
    const { parts, host: counts } = samples.at(-1) ?? { parts: {}, host: {} };
    const memory = Object.entries(parts).map(([part, { pssMib, fds }]) => `${part} ${pssMib.toFixed(0)} MiB ${fds} fd`);
    say(`${(since() / MINUTE).toFixed(1)} min: ${memory.join(', ')}; ${JSON.stringify(counts)}; bad ${JSON.stringify(book.bad)}`);
  }
}

async function striking(): Promise<void> {
  const all = faults(platform, broker).filter(({ name }) => driver === 'docker' || name !== 'out of memory');
  const gentle = all.filter(({ ends }) => ends === undefined);
  const turns = { all: 0, gentle: 0 };
  for (let next = Math.min(faultEveryMs, 30_000); end.reason === '' && next <= total - tailMs; next += faultEveryMs) {
    await pause(next - since());
    if (end.reason !== '') return;
    const share = since() / total;
    const calm = share >= LONG_LIFE.from && share <= LONG_LIFE.to;
    const { name, strike } = calm ? gentle[turns.gentle++ % gentle.length]! : all[turns.all++ % all.length]!;
    const from = Date.now();
    say(`fault: ${name}`);
    const error = await strike().then(
      () => undefined,
      (thrown: unknown) => String(thrown),
    );
    if (error !== undefined) say(`${name}: ${error}`);
    strikes.push({ fault: name, from, to: Date.now() + FELT_MS, ...(error === undefined ? {} : { error }) });
    appendFileSync(beside('.samples.jsonl'), `${JSON.stringify({ strike: strikes.at(-1) })}\n`);
  }
}

async function soak(): Promise<void> {
  const supervisor = parentOf((await platform.status()).controller.pid);
  const source = (name: string) => readFileSync(join(import.meta.dirname, 'fixtures', name), 'utf8');
  await traffic.prepare({ 'traffic.ts': source('traffic.ts'), 'worker.ts': source('worker.ts') }, broker.url);
  traffic.start();
  await Promise.all([sampling(supervisor), striking()]);
  say('the end: what waits is done');
  await traffic.stop(EVENTS_SETTLE_MS);
  end.reason ||= 'its time';
  await sleep(idleMs);
  await sample(supervisor);
}

try {
  await soak();
} catch (error) {
  trouble('the soak', error);
  await traffic.stop(0).catch((thrown: unknown) => trouble('the end of the traffic', thrown));
}
// What the parts said is worth more than the verdict, where that is bad.
cpSync(join(platform.home, 'logs'), beside('.logs'), { recursive: true, filter: (path) => !/\/logs\/[^/]+\//.test(path) });
try {
  await platform.fnOk(['down', '--home', platform.home]);
  left = await findLeaks(platform);
} catch (error) {
  trouble('fn down', error);
}
left.push(...(await platform.dispose()));
await broker.stop();
rmSync(folder, { recursive: true, force: true });

const result = {
  date,
  commit,
  minutes: since() / MINUTE,
  driver,
  machine: host,
  ended: end.reason,
  ...verdictsOf({ book, strikes, samples, series: seriesOf(samples, settleMs), left, troubles, cores: host.cores }),
  samples,
};
writeFileSync(beside('.json'), condensed(result));
writeFileSync(beside('.full.json'), `${JSON.stringify({ ...result, settleMs, failures: book.failures })}\n`);
writeFileSync(beside('.md'), markdown(result));
process.stdout.write(`${markdown(result)}\n${beside('.md')}\n`);
process.exit(result.verdicts.every(({ good }) => good) ? 0 : 1);
