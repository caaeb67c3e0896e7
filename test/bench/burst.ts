/** Bursts at the cold: 100 requests at one function, and one request at each of 50. */
import type { TestPlatform } from '../helpers/platform.ts';
import { range } from '../helpers/wait.ts';
import { type BenchContext, HELLO, type Measurement, type Timed, allCold, quiet, rounds, timed } from './context.ts';
import type { Figure } from './report.ts';
import { median, summarise } from './stats.ts';

/** What a request may wait for an instance: the gateway's default queue deadline. */
const QUEUE_DEADLINE_MS = 30_000;

interface Burst {
  good: number;
  bad: string[];
  /** Until the last answer, ms. */
  wallMs: number;
  p50: number;
  max: number;
  kinds: Record<string, number>;
}

async function fire(platform: TestPlatform, paths: string[]): Promise<Burst> {
  const started = performance.now();
  const results = await Promise.all(paths.map((path) => timed(platform, path)));
  const wallMs = performance.now() - started;
  const { p50, max } = summarise(results.map(({ answer }) => answer.ms));
  const kinds: Record<string, number> = {};
  for (const { timing } of results) kinds[timing.start ?? 'none'] = (kinds[timing.start ?? 'none'] ?? 0) + 1;
  const bad = results.filter(({ answer }: Timed) => answer.status !== 200 || answer.ms > QUEUE_DEADLINE_MS);
  return {
    good: results.length - bad.length,
    bad: bad.map(({ answer }) => `${answer.status} ${answer.text.slice(0, 120)}`),
    wallMs,
    p50,
    max,
    kinds,
  };
}

async function figuresOf(context: BenchContext, group: string, what: string, prefix: string, paths: string[]): Promise<Figure[]> {
  const { platform } = context;
  const bursts: Burst[] = [];
  let generic = 0;
  for (let round = 0; round < rounds(context, 3); round++) {
    await allCold(platform, prefix);
    await quiet(platform, 1);
    generic = (await platform.status()).instances.filter(({ state }) => state === 'generic').length;
    bursts.push(await fire(platform, paths));
    const last = bursts.at(-1)!;
    context.say(
      `${what}: ${last.good} of ${paths.length} good, last after ${(last.wallMs / 1000).toFixed(2)} s, ${JSON.stringify(last.kinds)} ${last.bad[0] ?? ''}`,
    );
  }
  const { budget } = await platform.status();
  const good = Math.min(...bursts.map((burst) => burst.good));
  const kinds = Object.entries(bursts.at(-1)!.kinds).map(([kind, count]) => `${count} ${kind}`);
  return [
    {
      group,
      what: `${what}: answered 200 within ${QUEUE_DEADLINE_MS / 1000} s`,
      unit: 'requests',
      value: good,
      mark: { says: `all ${paths.length}`, met: good === paths.length },
      note: `${generic} generic instances in the pool before; waited for: ${kinds.join(', ')}; budget ${budget.memoryMib} MiB and ${budget.cpu} cores`,
    },
    { group, what: `${what}: p50`, unit: 'ms', value: median(bursts.map(({ p50 }) => p50)) },
    { group, what: `${what}: last answer`, unit: 'ms', value: median(bursts.map(({ wallMs }) => wallMs)) },
  ];
}

async function oneFunction(context: BenchContext): Promise<Figure[]> {
  await context.platform.deploy('burst', HELLO, { flags: ['--keep-alive', '0'] });
  return figuresOf(
    context,
    'burst-one',
    '100 requests at one cold function',
    'burst',
    range(100).map(() => '/burst'),
  );
}

async function manyFunctions(context: BenchContext): Promise<Figure[]> {
  const names = range(50).map((index) => `each-${index}`);
  for (const name of names) await context.platform.deploy(name, HELLO, { flags: ['--keep-alive', '0'] });
  return figuresOf(
    context,
    'burst-many',
    '1 request at each of 50 cold functions',
    'each-',
    names.map((name) => `/${name}`),
  );
}

export const burstOne: Measurement = { group: 'burst-one', run: oneFunction };
export const burstMany: Measurement = { group: 'burst-many', run: manyFunctions };
