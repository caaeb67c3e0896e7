/**
 * Events: how fast they are accepted, how long one is on its way, how fast a backlog is worked off; on SQLite and on
 * Redis, each beside BullMQ, whose worker calls the same function over HTTP. The same Redis settings on both sides:
 * what was accepted is on the disk (appendfsync always), as with SQLite.
 */
import { Queue } from 'bullmq';
import { startRedis } from '../helpers/redis-server.ts';
import type { TestPlatform } from '../helpers/platform.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { type BenchContext, type Measurement, rounds } from './context.ts';
import { type EventTarget, runEvents, startWorker } from './event-client.ts';
import type { Figure } from './report.ts';
import { median, percentile, spread } from './stats.ts';

const NAME = 'sink';
const SINK = 'test/bench/fixtures/event-sink.ts';
/** One instance, so that what it has seen is in one place; CPU more than one Node uses. */
const FLAGS = ['--min', '1', '--max', '1', '--concurrency', '100', '--cpu', '2', '--memory', '256'];
/** Calls at a time of BullMQ's worker: more made it no faster here. */
const WORKER_CONCURRENCY = 50;
/** Enqueued at a time. */
const SENDERS = 64;
const STEADY_PER_SECOND = 200;
const DRAIN_EVENTS = 50_000;

interface Side {
  name: 'sqlite' | 'redis';
  platform: TestPlatform;
  target: EventTarget;
}

interface Seen {
  count: number;
  lastAt: string;
  delays: number[];
}

const seen = async (platform: TestPlatform): Promise<Seen> => (await platform.call(`/${NAME}`, { timeoutMs: 60_000 })).json() as Seen;
const forget = (platform: TestPlatform) => platform.call(`/${NAME}`, { method: 'DELETE' });

async function allSeen(platform: TestPlatform, count: number): Promise<Seen> {
  await waitFor(`${count} events at the function`, async () => (await seen(platform)).count >= count, { timeoutMs: 300_000, everyMs: 250 });
  return seen(platform);
}

async function events(context: BenchContext): Promise<Figure[]> {
  const redis = await startRedis({ appendfsync: 'always' });
  try {
    const onRedis = await context.start({ FN_STORE: redis.url });
    const platforms = { sqlite: context.platform, redis: onRedis };
    const sides: Side[] = [];
    for (const name of ['sqlite', 'redis'] as const) {
      const platform = platforms[name];
      await platform.deploy(NAME, SINK, { flags: FLAGS });
      // The first starts the dispatcher.
      await platform.call(`/${NAME}`, { method: 'POST', headers: { prefer: 'respond-async' }, body: '{"sentAt":""}' });
      await allSeen(platform, 1);
      sides.push({ name, platform, target: { to: 'fn', origin: platform.url, path: `/${NAME}` } });
    }
    const bullmq: EventTarget = { to: 'bullmq', redis: { port: redis.port }, queue: 'bench' };
    return [
      ...(await enqueue(context, sides, bullmq)),
      ...(await latency(context, sides, bullmq)),
      ...(await drain(context, sides, bullmq)),
    ];
  } finally {
    await redis.stop();
  }
}

/** Nothing is to be done with them meanwhile: what is measured is that they are taken. */
async function enqueue(context: BenchContext, sides: Side[], bullmq: EventTarget): Promise<Figure[]> {
  const rates = new Map<string, number[]>(['sqlite', 'redis', 'bullmq'].map((name) => [name, []]));
  const number = Math.max(2_000, Math.round(20_000 * context.effort));
  for (let round = 0; round < rounds(context, 5); round += 1) {
    for (const { name, target } of [...sides, { name: 'bullmq', target: bullmq }]) {
      const { accepted, refused, seconds } = await runEvents({
        do: 'fill',
        target,
        events: number,
        concurrency: SENDERS,
        dueInMs: 3_600_000,
      });
      if (refused > 0) throw new Error(`${name} refused ${refused} events`);
      rates.get(name)!.push(accepted / seconds);
    }
    for (const { platform } of sides) await startAnew(platform);
    await obliterate(bullmq);
  }
  const other = median(rates.get('bullmq')!);
  return sides.map(({ name }) => {
    const value = median(rates.get(name)!);
    context.say(`enqueue on ${name}: ${value.toFixed(0)}/s, BullMQ ${other.toFixed(0)}/s`);
    return {
      group: 'events',
      what: `enqueue, ${SENDERS} at a time, ${name}`,
      unit: '1/s',
      value,
      spread: spread(rates.get(name)!),
      against: { what: 'BullMQ, queue.add', value: other },
      ratio: value / other,
      note: 'fn is called over HTTP, through its gateway; BullMQ’s client speaks to Redis from within the sender',
    };
  });
}

/** A function that is deleted takes its events with it. */
async function startAnew(platform: TestPlatform): Promise<void> {
  await platform.fnOk(['delete', NAME, '--yes']);
  await platform.deploy(NAME, SINK, { flags: FLAGS });
}

function queueOf(target: EventTarget): Queue {
  if (target.to !== 'bullmq') throw new Error('not a queue of BullMQ');
  return new Queue(target.queue, { connection: { port: target.redis.port, host: '127.0.0.1' } });
}

async function obliterate(target: EventTarget): Promise<void> {
  const queue = queueOf(target);
  await queue.obliterate({ force: true });
  await queue.close();
}

async function worker(target: EventTarget, platform: TestPlatform) {
  if (target.to !== 'bullmq') throw new Error('not a queue of BullMQ');
  const { redis, queue } = target;
  return startWorker({ do: 'work', redis, queue, origin: platform.url, path: `/${NAME}`, concurrency: WORKER_CONCURRENCY });
}

async function latency(context: BenchContext, sides: Side[], bullmq: EventTarget): Promise<Figure[]> {
  const number = Math.max(400, Math.round(4_000 * context.effort));
  const all = new Map<string, number[]>(['sqlite', 'redis', 'bullmq'].map((name) => [name, []]));
  const [{ platform: first }] = sides as [Side];
  for (let round = 0; round < rounds(context, 3); round += 1) {
    for (const { name, platform, target } of [...sides, { name: 'bullmq', platform: first, target: bullmq }]) {
      await forget(platform);
      const working = name === 'bullmq' ? await worker(target, platform) : null;
      const { accepted, refused } = await runEvents({ do: 'steady', target, events: number, perSecond: STEADY_PER_SECOND });
      if (refused > 0) throw new Error(`${name} refused ${refused} events`);
      all.get(name)!.push(...(await allSeen(platform, accepted)).delays);
      await working?.stop();
    }
  }
  const at = (name: string, share: number) =>
    percentile(
      all.get(name)!.toSorted((a, b) => a - b),
      share,
    );
  return sides.flatMap(({ name }) =>
    [0.5, 0.99].map((share) => {
      const value = at(name, share);
      const other = at('bullmq', share);
      context.say(`on its way, ${name}, p${share * 100}: ${value.toFixed(2)} ms, BullMQ ${other.toFixed(2)} ms`);
      return {
        group: 'events',
        what: `from sending to the function, ${STEADY_PER_SECOND}/s, p${share * 100}, ${name}`,
        unit: 'ms',
        value,
        against: { what: 'BullMQ', value: other },
        ratio: value / other,
        mark: { says: 'lower than BullMQ', met: value < other },
      } satisfies Figure;
    }),
  );
}

/** They are due when all of them are there; from then until the last is done. */
async function drain(context: BenchContext, sides: Side[], bullmq: EventTarget): Promise<Figure[]> {
  const number = Math.max(2_000, Math.round(DRAIN_EVENTS * Math.min(1, context.effort)));
  const rates = new Map<string, number[]>(['sqlite', 'redis', 'bullmq'].map((name) => [name, []]));
  const [{ platform: first }] = sides as [Side];
  for (let round = 0; round < rounds(context, 3); round += 1) {
    for (const { name, platform, target } of sides) {
      await forget(platform);
      // As long as filling takes by the rate seen so far, and half as long again.
      const fillMs = Math.round((number / 1_500) * 1_000) + 2_000;
      const began = process.hrtime.bigint();
      const { accepted, refused, seconds } = await runEvents({ do: 'fill', target, events: number, concurrency: SENDERS, dueInMs: fillMs });
      if (refused > 0) throw new Error(`${name} refused ${refused} events`);
      if (seconds * 1_000 > fillMs) throw new Error(`filling took ${seconds.toFixed(1)} s: longer than they were delayed for`);
      const { lastAt } = await allSeen(platform, accepted);
      rates.get(name)!.push(accepted / (Number(BigInt(lastAt) - began) / 1e9 - fillMs / 1_000));
    }
    await forget(first);
    const queue = queueOf(bullmq);
    await queue.pause();
    await runEvents({ do: 'fill', target: bullmq, events: number, concurrency: SENDERS, dueInMs: 0 });
    const working = await worker(bullmq, first);
    const before = process.hrtime.bigint();
    await queue.resume();
    await queue.close();
    const { lastAt } = await allSeen(first, number);
    rates.get('bullmq')!.push(number / (Number(BigInt(lastAt) - before) / 1e9));
    await working.stop();
    await sleep(500);
  }
  const other = median(rates.get('bullmq')!);
  return sides.map(({ name }) => {
    const value = median(rates.get(name)!);
    context.say(`drain on ${name}: ${value.toFixed(0)}/s, BullMQ ${other.toFixed(0)}/s`);
    return {
      group: 'events',
      what: `drain of ${number}, ${name}`,
      unit: '1/s',
      value,
      spread: spread(rates.get(name)!),
      against: { what: `BullMQ, ${WORKER_CONCURRENCY} at a time`, value: other },
      ratio: value / other,
      mark: { says: 'at least BullMQ’s rate', met: value >= other },
    };
  });
}

export const eventFigures: Measurement = { group: 'events', run: events };
