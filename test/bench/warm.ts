/** Warm requests through the gateway against the same instance's own socket: latency, throughput, CPU. */
import { join } from 'node:path';
import { waitFor } from '../helpers/wait.ts';
import { type BenchContext, HELLO, type Measurement, rounds, timed } from './context.ts';
import { addedLatency } from './added-latency.ts';
import { type PlainServer, startBare, startRawProxy } from './bare.ts';
import { type GeneratorJob, runGenerator } from './generator.ts';
import { cpuMicros } from './host.ts';
import { atMost, type Figure } from './report.ts';
import { median, spread } from './stats.ts';

const NAME = 'warm';
/** CPU of the instance: more than one Node uses, so that the quota is not what is measured. */
const FLAGS = ['--min', '1', '--max', '1', '--concurrency', '100', '--cpu', '2', '--memory', '256'];

interface Sides {
  gateway: GeneratorJob;
  instance: GeneratorJob;
  gatewayPid: number;
  instancePid: number;
}

async function sides(context: BenchContext, connections: number, durationMs: number): Promise<Sides> {
  const { platform } = context;
  if (!(await platform.status()).functions.some((fn) => fn.name === NAME)) await platform.deploy(NAME, HELLO, { flags: FLAGS });
  await timed(platform, `/${NAME}`);
  const instance = await waitFor('the instance', async () => (await platform.instances(NAME))[0]);
  if (instance.pid === undefined) throw new Error('status does not tell the pid of the instance');
  const job = { connections, durationMs, warmUpMs: 500 };
  return {
    gateway: { ...job, target: { port: platform.port }, path: `/${NAME}` },
    instance: { ...job, target: { socketPath: join(platform.runDir, 'instances', instance.id, 'sock', 's') }, path: '/' },
    gatewayPid: await platform.pid('gateway'),
    instancePid: instance.pid,
  };
}

async function latency(context: BenchContext): Promise<Figure[]> {
  const both = await sides(context, 1, 2_000);
  return addedLatency(context, both, {
    group: 'warm-latency',
    direct: 'instance’s own socket',
    rounds: rounds(context, 9),
    limitMs: { p50: 0.2, p99: 2 },
  });
}

async function throughput(context: BenchContext): Promise<Figure[]> {
  const both = await sides(context, 32, 4_000);
  const { target } = both.instance;
  if (!('socketPath' in target)) throw new Error('the instance has no socket');
  const bare = await startBare();
  const proxy = await startRawProxy(target.socketPath);
  try {
    return throughputFigures(context, await throughputRounds(context, both, bare, proxy));
  } finally {
    proxy.stop();
    bare.stop();
  }
}

/** What was seen, round by round: requests per second, and CPU per request, µs. */
type Seen = Record<'via' | 'direct' | 'bare' | 'proxy' | 'gatewayCpu' | 'instanceCpu' | 'instanceViaCpu' | 'bareCpu', number[]>;

async function throughputRounds(context: BenchContext, both: Sides, bare: PlainServer, proxy: PlainServer): Promise<Seen> {
  const { gateway, instance, gatewayPid, instancePid } = both;
  const seen: Seen = { via: [], direct: [], bare: [], proxy: [], gatewayCpu: [], instanceCpu: [], instanceViaCpu: [], bareCpu: [] };
  for (let round = 0; round < rounds(context, 7); round++) {
    const direct = await runGenerator({ ...instance, cpuOf: [instancePid] });
    seen.instanceCpu.push(direct.cpuMicros / direct.requests);
    const instanceBefore = cpuMicros(instancePid);
    const via = await runGenerator({ ...gateway, cpuOf: [gatewayPid] });
    // With its warm-up, whose requests are not counted: their share is that of their time.
    const share = gateway.durationMs / (gateway.durationMs + gateway.warmUpMs);
    seen.instanceViaCpu.push(((cpuMicros(instancePid) - instanceBefore) * share) / via.requests);
    seen.gatewayCpu.push(via.cpuMicros / via.requests);
    const alone = await runGenerator({ ...gateway, target: { port: bare.port }, cpuOf: [bare.pid] });
    seen.bareCpu.push(alone.cpuMicros / alone.requests);
    const raw = await runGenerator({ ...gateway, target: { port: proxy.port }, path: instance.path });
    seen.proxy.push(raw.requests / raw.seconds);
    seen.bare.push(alone.requests / alone.seconds);
    seen.direct.push(direct.requests / direct.seconds);
    seen.via.push(via.requests / via.seconds);
  }
  return seen;
}

/** Median of what one is to the other in the same round. */
const ratioOf = (one: readonly number[], other: readonly number[]): number => median(one.map((value, round) => value / other[round]!));

function throughputFigures(context: BenchContext, seen: Seen): Figure[] {
  const group = 'throughput';
  const ratio = ratioOf(seen.via, seen.direct);
  const direct = { what: 'instance’s own socket', value: median(seen.direct) };
  context.say(`throughput: ${median(seen.via).toFixed(0)} req/s, ${(ratio * 100).toFixed(0)} % of the instance's own`);
  const cpuRatio = ratioOf(seen.gatewayCpu, seen.bareCpu);
  return [
    {
      group,
      what: 'throughput, 32 connections',
      unit: 'req/s',
      value: median(seen.via),
      spread: spread(seen.via),
      against: direct,
      ratio,
      mark: { says: '≥ 45 % of the instance’s own', met: ratio >= 0.45 },
      note: `generator, gateway and instance share the cores on one side, generator and instance on the other; a bare Node server over TCP, which forwards nothing, reaches ${(ratioOf(seen.bare, seen.direct) * 100).toFixed(0)} % of the instance's own`,
    },
    {
      group,
      what: 'the price of forwarding: throughput of a proxy without logic',
      unit: 'req/s',
      value: median(seen.proxy),
      spread: spread(seen.proxy),
      against: direct,
      ratio: ratioOf(seen.proxy, seen.direct),
      note: 'a page of code that writes both heads again, on raw sockets, before the same instance: what a gateway in Node could reach here if it did nothing else',
    },
    {
      group,
      what: 'throughput beside a bare Node server',
      unit: 'req/s',
      value: median(seen.via),
      against: { what: 'node:http hello over TCP', value: median(seen.bare) },
      ratio: ratioOf(seen.via, seen.bare),
    },
    {
      group,
      what: 'CPU per request of the gateway',
      unit: 'µs',
      value: median(seen.gatewayCpu),
      spread: spread(seen.gatewayCpu),
      against: { what: 'node:http hello over TCP', value: median(seen.bareCpu) },
      ratio: cpuRatio,
      mark: atMost(cpuRatio, 2.5, 'times'),
    },
    {
      group,
      what: 'CPU per request of the instance',
      unit: 'µs',
      value: median(seen.instanceViaCpu),
      spread: spread(seen.instanceViaCpu),
      against: { what: 'asked by its own socket', value: median(seen.instanceCpu) },
      ratio: ratioOf(seen.instanceViaCpu, seen.instanceCpu),
    },
  ];
}

export const warmLatency: Measurement = { group: 'warm-latency', run: latency };
export const warmThroughput: Measurement = { group: 'throughput', run: throughput };
