/**
 * More cold starts than the machine can make: twenty a second for half a minute, each at a function without an instance, while
 * a container costs some 0.28 s of CPU. Nothing may fail but with 503 and Retry-After, nobody is overtaken by who came much
 * later, memory does not grow with the queue, and a warm function beside it goes on.
 */
import type { TestPlatform } from '../helpers/platform.ts';
import { range, sleep } from '../helpers/wait.ts';
import { type BenchContext, HELLO, type Measurement, type Timed, allCold, quiet, timed } from './context.ts';
import { pssMib } from './host.ts';
import type { Figure } from './report.ts';
import { summarise } from './stats.ts';

const PER_SECOND = 20;
const SECONDS = 30;
/** They take turns: each is asked again when its instance has long been stopped, as long as the machine keeps up. */
const FUNCTIONS = 150;
/** Waiting times are told for so many seconds of arrivals each. */
const BIN_SECONDS = 5;
/** How often the warm function is asked, ms. */
const WARM_EVERY_MS = 50;
/** How much later than somebody else one may come and be answered before him, s: the gateway tells of waiters in batches, creates end in any order. */
const FAIR_SECONDS = 2;

interface Arrival {
  /** After the first, s. */
  at: number;
  answeredAt: number;
  one: Timed;
}

/** The warm function's latencies while `during` runs, ms. */
async function warmBeside(platform: TestPlatform, during: Promise<unknown>): Promise<number[]> {
  const samples: number[] = [];
  const over = new AbortController();
  // What it throws, whoever waits for it is told.
  void during.catch(() => undefined).finally(() => over.abort());
  while (!over.signal.aborted) {
    const { answer } = await timed(platform, '/beside');
    if (answer.status !== 200) throw new Error(`the warm function answered ${answer.status}: ${answer.text}`);
    samples.push(answer.ms);
    await sleep(WARM_EVERY_MS);
  }
  return samples;
}

async function fire(platform: TestPlatform, seconds: number): Promise<Arrival[]> {
  const all: Promise<Arrival>[] = [];
  const begun = performance.now();
  for (let index = 0; index < PER_SECOND * seconds; index++) {
    const at = index / PER_SECOND;
    await sleep(Math.max(0, begun + at * 1_000 - performance.now()));
    const answered = timed(platform, `/slope-${index % FUNCTIONS}`);
    all.push(answered.then((one) => ({ at, answeredAt: (performance.now() - begun) / 1_000, one })));
  }
  return Promise.all(all);
}

/** How much longer than fair the worst-treated waited: the most by which somebody came later and was answered earlier, s. */
function overtaken(arrivals: readonly Arrival[]): number {
  const cold = arrivals.filter(({ one }) => one.answer.status === 200 && one.timing.start !== 'warm');
  let worst = 0;
  for (const early of cold) for (const late of cold) if (late.answeredAt < early.answeredAt) worst = Math.max(worst, late.at - early.at);
  return worst;
}

function waits(arrivals: readonly Arrival[], seconds: number): Figure[] {
  const figures: Figure[] = [];
  for (let from = 0; from < seconds; from += BIN_SECONDS) {
    const good = arrivals.filter(({ at, one }) => at >= from && at < from + BIN_SECONDS && one.answer.status === 200);
    if (good.length === 0) continue;
    const { p50, p99, max } = summarise(good.map(({ one }) => one.answer.ms));
    const note = `p99 ${(p99 / 1_000).toFixed(1)} s, max ${(max / 1_000).toFixed(1)} s`;
    figures.push({ group: 'cold-slope', what: `came in seconds ${from} to ${from + BIN_SECONDS}: p50`, unit: 'ms', value: p50, note });
  }
  return figures;
}

async function slope(context: BenchContext): Promise<Figure[]> {
  const { platform, effort } = context;
  const seconds = Math.max(BIN_SECONDS, Math.round(SECONDS * effort));
  const names = range(Math.min(FUNCTIONS, PER_SECOND * seconds)).map((index) => `slope-${index}`);
  for (const name of names) await platform.deploy(name, HELLO, { flags: ['--keep-alive', '0', '--memory', '128'] });
  await platform.deploy('beside', HELLO, { flags: ['--min', '1', '--memory', '128'] });
  await allCold(platform, 'slope-');
  await quiet(platform, 1);
  const { controller, gateways } = await platform.status();
  const pids = [controller.pid, ...(gateways ?? []).flatMap(({ pid }) => pid ?? [])];
  const memory = () => pids.map(pssMib).reduce((sum, mib) => sum + mib, 0);
  const alone = await warmBeside(platform, sleep(5_000));
  const before = memory();
  const firing = fire(platform, seconds);
  const beside = await warmBeside(platform, firing);
  const after = memory();
  const arrivals = await firing;
  const bad = arrivals.filter(({ one }) => one.answer.status !== 200);
  const wrong = bad.filter(({ one }) => one.answer.status !== 503 || !/\r\nretry-after: \d/i.test(one.answer.head));
  const refused = bad.length - wrong.length;
  context.say(
    `slope: ${arrivals.length - bad.length} of ${arrivals.length} answered 200, ${refused} 503 with Retry-After, ${wrong.length} otherwise`,
  );
  const worst = overtaken(arrivals);
  const [quietly, busily] = [summarise(alone), summarise(beside)];
  const group = 'cold-slope';
  return [
    {
      group,
      what: `${PER_SECOND} cold functions a second for ${seconds} s: failed otherwise than by 503 with Retry-After`,
      unit: 'requests',
      value: wrong.length,
      mark: { says: 'none', met: wrong.length === 0 },
      note: `${arrivals.length - bad.length} of ${arrivals.length} answered 200, ${refused} waited for 30 s and were refused${wrong[0] ? `; ${wrong[0].one.answer.status} ${wrong[0].one.answer.text.slice(0, 100)}` : ''}`,
    },
    ...waits(arrivals, seconds),
    {
      group,
      what: 'overtaken by who came later by at most',
      unit: 's',
      value: worst,
      mark: { says: `≤ ${FAIR_SECONDS} s`, met: worst <= FAIR_SECONDS },
    },
    {
      group,
      what: 'memory of controller and gateway, after',
      unit: 'MiB',
      value: after,
      against: { what: 'before', value: before },
      ratio: after / before,
    },
    { group, what: 'a warm function beside it, p50', unit: 'ms', value: busily.p50, against: { what: 'alone', value: quietly.p50 } },
    { group, what: 'a warm function beside it, p99', unit: 'ms', value: busily.p99, against: { what: 'alone', value: quietly.p99 } },
  ];
}

export const coldSlope: Measurement = { group: 'cold-slope', run: slope };
