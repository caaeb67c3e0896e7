/**
 * What a request costs the gateway by itself (gateway-alone.ts), beside a bare Node server in the same rounds: with one function,
 * with a thousand, and with two gateways on one port. A proxy without logic, in front of the same instances, tells how much of that
 * is the price of forwarding at all. With --cpu-prof also where the time goes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PlainServer, startBare, startRawProxy } from './bare.ts';
import { type BenchContext, type Measurement, rounds } from './context.ts';
import { GatewayAlone, type GatewayAloneOptions } from './gateway-alone.ts';
import { type GeneratorJob, runGenerator } from './generator.ts';
import { profileReport } from './profile.ts';
import { atMost, type Figure } from './report.ts';
import { median, spread } from './stats.ts';

const JOB = { connections: 32, durationMs: 3_000, warmUpMs: 500 };
const MANY = 1_000;
/** Requests after which V8 has compiled what is hot; each gateway does that for itself. */
const COMPILED_AFTER = 50_000;
/** Runs until that is so, at most: on a machine that starves it would never be. */
const MAX_FIRST_RUNS = 8;

interface Side {
  readonly cpu: number[];
  /** To that of the gateway with one function, round by round. */
  readonly ratios: number[];
  readonly job: GeneratorJob & { cpuOf: readonly number[] };
}

/** CPU per request, µs, in the time that is counted: what it takes until all functions are warm is no part of it. */
async function measureOne({ job }: Side): Promise<number> {
  const { cpuMicros, requests } = await runGenerator(job);
  return cpuMicros / requests;
}

/** Until its processes have compiled what they run. */
async function prepare({ job }: Side): Promise<void> {
  let requests = 0;
  for (let run = 0; run < MAX_FIRST_RUNS && requests < COMPILED_AFTER * job.cpuOf.length; run++)
    requests += (await runGenerator(job)).requests;
}

const plainSide = ({ port, pid }: PlainServer, paths: readonly string[] = ['/']): Side => ({
  cpu: [],
  ratios: [],
  job: { ...JOB, target: { port }, path: paths[0]!, paths, cpuOf: [pid] },
});

const gatewaySide = ({ port, paths, pids }: GatewayAlone): Side => ({
  cpu: [],
  ratios: [],
  job: { ...JOB, target: { port }, path: paths[0]!, paths, cpuOf: pids },
});

const figure = (what: string, side: Side, against: Side, words: string, limit?: number): Figure => {
  const ratio = median(side.ratios);
  return {
    group: 'gateway',
    what,
    unit: 'µs',
    value: median(side.cpu),
    spread: spread(side.cpu),
    against: { what: words, value: median(against.cpu) },
    ratio,
    ...(limit === undefined ? {} : { mark: atMost(ratio, limit, 'times') }),
  };
};

type Start = (options: GatewayAloneOptions) => Promise<GatewayAlone>;
type StartProxy = (target: string) => Promise<PlainServer>;

async function measure(context: BenchContext, bare: PlainServer, start: Start, startProxy: StartProxy) {
  const first = await start({ functions: 1 });
  const second = await start({ functions: MANY });
  const one = gatewaySide(first);
  const many = gatewaySide(second);
  const two = gatewaySide(await start({ functions: 1, gateways: 2 }));
  const rawOne = plainSide(await startProxy(first.sockets), first.paths);
  const rawMany = plainSide(await startProxy(second.sockets), second.paths);
  const beside = plainSide(bare);
  const sides = [beside, one, many, two, rawOne, rawMany];
  for (const side of sides) await prepare(side);
  for (let round = 0; round < rounds(context, 7); round++) {
    for (const side of sides) side.cpu.push(await measureOne(side));
    const last = (side: Side) => side.cpu.at(-1)!;
    for (const side of [one, rawOne]) side.ratios.push(last(side) / last(beside));
    for (const side of [many, two]) side.ratios.push(last(side) / last(one));
    rawMany.ratios.push(last(rawMany) / last(rawOne));
  }
  return { one, many, two, beside, rawOne, rawMany };
}

async function gatewayAlone(context: BenchContext): Promise<Figure[]> {
  const bare = await startBare();
  const started: { stop: () => Promise<void> | void }[] = [bare];
  const kept = async <T extends { stop: () => Promise<void> | void }>(starting: Promise<T>): Promise<T> => {
    const one = await starting;
    started.push(one);
    return one;
  };
  const start: Start = (options) => kept(GatewayAlone.start(options));
  try {
    const { one, many, two, beside, rawOne, rawMany } = await measure(context, bare, start, (target) => kept(startRawProxy(target)));
    context.say(`gateway: ${median(one.cpu).toFixed(1)} µs of CPU per request, ${median(one.ratios).toFixed(2)} times a bare Node server`);
    if (context.profile) await profile(context, start);
    const proxy = 'a proxy without logic';
    return [
      figure('CPU per request of the gateway, stand-ins around it', one, beside, 'node:http hello over TCP', 2.5),
      figure(`the same, ${MANY} functions in turns`, many, one, 'one function', 1.1),
      figure('the same, two gateways on one port', two, one, 'one gateway', 1.1),
      figure(`the price of forwarding: CPU per request of ${proxy}`, rawOne, beside, 'node:http hello over TCP'),
      figure(`the same, ${MANY} instances in turns`, rawMany, rawOne, 'one instance'),
    ];
  } finally {
    for (const one of started.toReversed()) await one.stop();
  }
}

/** One more run, of a gateway that writes a profile when it ends. */
async function profile(context: BenchContext, start: Start): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'fnb-prof-'));
  const alone = await start({ functions: 1, nodeFlags: ['--cpu-prof', `--cpu-prof-dir=${folder}`, '--cpu-prof-interval=500'] });
  await runGenerator({ ...JOB, durationMs: 10_000, target: { port: alone.port }, path: alone.paths[0]! });
  await alone.stop();
  context.say(profileReport(folder));
  rmSync(folder, { recursive: true, force: true });
}

export const gatewayByItself: Measurement = { group: 'gateway', run: gatewayAlone };
