/**
 * Cold starts: from the pool, one at a time and two a second, with where their time goes; and in full against a bare
 * `docker run` of the same image.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { execa } from 'execa';
import { call } from '../helpers/http.ts';
import { sleep } from '../helpers/wait.ts';
import { type BenchContext, HELLO, type Measurement, type Timed, allCold, quiet, rounds, timed } from './context.ts';
import { type Figure, atMost } from './report.ts';
import { median, spread, summarise } from './stats.ts';

/** Functions that take turns, so that a sample waits for the pool and not for the last one's end. */
const FUNCTIONS = 10;

/** Two a second: what one host of two cores refills with room to spare. */
const PACE_MS = 500;

/** Where the time of a pooled start goes, as the client and `Server-Timing` tell it: each a row, in the order in which it passes. */
function stages(group: string, timed: readonly Timed[]): Figure[] {
  const of = (value: (one: Timed, phase: (name: string) => number) => number) =>
    median(timed.map((one) => value(one, (name) => one.timing.phases[name] ?? 0)));
  const rows: [string, number][] = [
    ['the client and the gateway, beside what follows', of(({ answer }, phase) => answer.ms - phase('fn'))],
    ['wanted, claimed and granted (queue)', of((_one, phase) => phase('queue'))],
    ['limits and code in place (place)', of((_one, phase) => phase('place'))],
    ['init, beside loading the module', of((_one, phase) => phase('init') - phase('place') - phase('load'))],
    ['loading the module (load)', of((_one, phase) => phase('load'))],
    ['connection and first request (handler)', of((_one, phase) => phase('handler'))],
  ];
  return rows.map(([what, value]) => ({ group, what: `… of it ${what}`, unit: 'ms', value }));
}

/** The slowest of them, with the step that took most of it: of a hundred it is what p99 says. */
function slowest(timed: readonly Timed[]): string {
  const { answer, timing } = timed.toSorted((a, b) => b.answer.ms - a.answer.ms)[0]!;
  const { queue = 0, init = 0, place = 0, load = 0, handler = 0 } = timing.phases;
  const steps = Object.entries({ queue, place, init: init - place - load, load, handler, elsewhere: answer.ms - queue - init - handler });
  const [step, ms] = steps.toSorted((a, b) => b[1] - a[1])[0]!;
  return `slowest ${answer.ms.toFixed(0)} ms, ${ms.toFixed(0)} of them ${step}`;
}

async function pooled(context: BenchContext): Promise<Figure[]> {
  const { platform } = context;
  for (let index = 0; index < FUNCTIONS; index++) {
    await platform.deploy(`pooled-${index}`, HELLO, { flags: ['--keep-alive', '0', '--memory', '128'] });
  }
  const samples: number[] = [];
  const cold: Timed[] = [];
  let full = 0;
  for (let round = 0; round < rounds(context, 10); round++) {
    await allCold(platform, 'pooled-');
    for (let index = 0; index < FUNCTIONS; index++) {
      await quiet(platform, 1);
      await timed(platform, '/.fn/none');
      const one = await timed(platform, `/pooled-${index}`);
      const { answer, timing } = one;
      if (answer.status !== 200) throw new Error(`cold start answered ${answer.status}: ${answer.text}`);
      if (timing.start === 'pooled') {
        samples.push(answer.ms);
        cold.push(one);
      } else full++;
    }
    context.say(`pooled cold start: ${samples.length} samples, p50 ${median(samples).toFixed(1)} ms`);
  }
  const { p50, p99 } = summarise(samples);
  const note = `${samples.length} samples, ${slowest(cold)}${full > 0 ? `; ${full} found no generic instance and are not counted` : ''}`;
  return [
    {
      group: 'cold-pooled',
      what: 'pooled cold start, p50',
      unit: 'ms',
      value: p50,
      spread: spread(samples),
      mark: atMost(p50, 10, 'ms'),
      note,
    },
    { group: 'cold-pooled', what: 'pooled cold start, p99', unit: 'ms', value: p99, mark: atMost(p99, 30, 'ms') },
    ...stages('cold-pooled', cold),
  ];
}

/**
 * A cold start every half second, whatever became of the one before: what refills and removals cost a request shows here.
 * Evenly paced: with arrivals by chance a pool of three is sometimes empty, which is another question.
 */
async function paced(context: BenchContext): Promise<Figure[]> {
  const { platform } = context;
  const names = Array.from({ length: FUNCTIONS }, (_, index) => `paced-${index}`);
  for (const name of names) await platform.deploy(name, HELLO, { flags: ['--keep-alive', '0', '--memory', '128'] });
  await allCold(platform, 'paced-');
  await quiet(platform, 1);
  await timed(platform, '/.fn/none');
  const all: Promise<Timed>[] = [];
  const begun = performance.now();
  for (let index = 0; index < rounds(context, 120); index++) {
    await sleep(Math.max(0, begun + index * PACE_MS - performance.now()));
    all.push(timed(platform, `/${names[index % FUNCTIONS]!}`));
  }
  const answers = await Promise.all(all);
  const bad = answers.filter(({ answer }) => answer.status !== 200);
  if (bad.length > 0) throw new Error(`${bad.length} of ${answers.length} failed: ${bad[0]!.answer.status} ${bad[0]!.answer.text}`);
  const kinds = (kind: string) => answers.filter(({ timing }) => timing.start === kind);
  const cold = [...kinds('pooled'), ...kinds('full')];
  if (cold.length === 0) throw new Error('none of them was a cold start');
  const ms = cold.map(({ answer }) => answer.ms);
  const { p50, p99 } = summarise(ms);
  context.say(`two a second: p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`);
  const note = `${kinds('pooled').length} pooled, ${kinds('full').length} found the pool empty and count, ${kinds('warm').length} were warm and do not; ${slowest(cold)}`;
  return [
    {
      group: 'cold-paced',
      what: 'cold start, two a second, p50',
      unit: 'ms',
      value: p50,
      spread: spread(ms),
      mark: atMost(p50, 10, 'ms'),
      note,
    },
    { group: 'cold-paced', what: 'cold start, two a second, p99', unit: 'ms', value: p99, mark: atMost(p99, 30, 'ms') },
    ...stages('cold-paced', kinds('pooled')),
  ];
}

/** From `docker run` to the first answer of the shim's health, ms: the same image, mounts and limits, no platform. */
async function bareDockerRun(image: string, network: string): Promise<number> {
  const folder = mkdtempSync('/tmp/fn-bare-');
  const socketFolder = join(folder, 'sock');
  mkdirSync(socketFolder, { mode: 0o777 });
  const name = `fn-bench-${process.pid}-${Math.floor(performance.now())}`;
  await execa('chmod', ['0777', folder, socketFolder]);
  const started = performance.now();
  try {
    const env = { FN_INSTANCE: 'i-benchbench00', FN_NONCE: 'bench', FN_SOCKET: '/sock/s' };
    const limits = '--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -m 128m --memory-swap 128m --pids-limit 128';
    const variables = Object.entries(env).flatMap(([key, value]) => ['-e', `${key}=${value}`]);
    const mount = ['-v', `${socketFolder}:/sock`];
    await execa('docker', [
      'run',
      '-d',
      '--name',
      name,
      '--label',
      'fn.bench=1',
      '--network',
      network,
      ...limits.split(' '),
      ...mount,
      ...variables,
      image,
    ]);
    const socketPath = join(socketFolder, 's');
    for (;;) {
      const connected = await new Promise<boolean>((resolve) => {
        const socket = connect(socketPath, () => {
          socket.destroy();
          resolve(true);
        });
        socket.on('error', () => resolve(false));
      });
      if (connected) break;
      if (performance.now() - started > 30_000) throw new Error('the container did not listen within 30 s');
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const answer = await call('http://fn/.fn/health', { socketPath });
    if (answer.status !== 200) throw new Error(`health answered ${answer.status}`);
    return performance.now() - started;
  } finally {
    await execa('docker', ['rm', '-f', name], { reject: false });
    rmSync(folder, { recursive: true, force: true });
  }
}

async function fullAgainstDocker(context: BenchContext): Promise<Figure[]> {
  if (context.driver !== 'docker') return [];
  const platform = await context.start({ FN_POOL: '0' });
  const image = (await platform.status()).runtimes.find((runtime) => runtime.name === 'node')?.image;
  if (image === undefined) throw new Error('status names no image of the runtime node');
  const figures: Figure[] = [];
  for (const [egress, network] of [
    ['none', 'none'],
    ['internet', 'bridge'],
  ] as const) {
    const name = `full-${egress}`;
    await platform.deploy(name, HELLO, { flags: ['--keep-alive', '0', '--egress', egress] });
    const ours: number[] = [];
    const bare: number[] = [];
    for (let round = 0; round < rounds(context, 15); round++) {
      await allCold(platform, name);
      await quiet(platform, 0);
      await timed(platform, '/.fn/none');
      const { answer, timing } = await timed(platform, `/${name}`);
      if (answer.status !== 200 || timing.start !== 'full')
        throw new Error(`full cold start: ${answer.status} ${timing.start} ${answer.text}`);
      ours.push(answer.ms);
      await allCold(platform, name);
      await quiet(platform, 0);
      bare.push(await bareDockerRun(image, network));
    }
    const [fn, docker] = [median(ours), median(bare)];
    context.say(`full cold start (${egress}): ${fn.toFixed(0)} ms, docker run ${docker.toFixed(0)} ms`);
    figures.push({
      group: 'cold-full',
      what: `full cold start, egress ${egress}, p50`,
      unit: 'ms',
      value: fn,
      spread: spread(ours),
      against: { what: `docker run --network ${network}`, value: docker },
      ratio: fn / docker,
      mark: { says: '≤ 1.3 × docker run', met: fn <= docker * 1.3 },
      note: `${ours.length} interleaved rounds; docker run's answer is the shim's health, without loading a function`,
    });
  }
  return figures;
}

export const coldPooled: Measurement = { group: 'cold-pooled', run: pooled };
export const coldPaced: Measurement = { group: 'cold-paced', run: paced };
export const coldFull: Measurement = { group: 'cold-full', run: fullAgainstDocker };
