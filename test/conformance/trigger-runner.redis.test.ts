/** A trigger over a real redis-server that is killed, by two dispatchers of which one dies: nothing lost, dead letters exactly the poison. */
import { afterEach, describe, expect, it } from 'vitest';
import { AsyncSettings } from '#contract/events.ts';
import { type BrokerTrigger, RedisListTrigger, RedisStreamTrigger } from '#contract/trigger.ts';
import { systemClock } from '#kit/clock.ts';
import { TriggerRunner } from '../../controller/dispatcher/trigger-runner.ts';
import { TestHost, answered, functionOf } from '../../controller/dispatcher/trigger-testing.ts';
import { openList } from '../../controller/triggers/redis-list/source.ts';
import { openStream } from '../../controller/triggers/redis-stream/source.ts';
import type { OpenSource, Source } from '../../controller/triggers/types.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { range, sleep, waitFor } from '../helpers/wait.ts';

const COUNT = 600;
const POISON = new Set(['m7', 'm111', 'm599']);
const FAST = { batchSize: 5, maxAttempts: 3, retryBaseSeconds: 0.01, retryMaxSeconds: 0.1, concurrency: 4 };
const of = functionOf({}, AsyncSettings.parse({}));
const times = { claimAfterMs: 4_000, aliveMs: 4_000 };

const open: OpenSource = async ({ trigger, ...options }) => {
  if (trigger.type === 'redis-stream') return openStream({ ...options, trigger }, times);
  if (trigger.type === 'redis-list') return openList({ ...options, trigger }, times);
  throw new Error(`no test of ${trigger.type}`);
};

/** One whose process ends at once: the broker hears nothing more of it. */
const mortal = (source: Source, isDead: () => boolean): Source => {
  const unlessDead = <T>(act: () => Promise<T>): Promise<T> => (isDead() ? new Promise(() => {}) : act());
  return {
    touchEveryMs: source.touchEveryMs,
    receive: (max, waitMs, signal) => (isDead() ? sleep(20).then(() => []) : source.receive(max, waitMs, signal)),
    ack: (messages) => unlessDead(() => source.ack(messages)),
    release: (messages) => unlessDead(() => source.release(messages)),
    touch: (messages) => (isDead() ? Promise.resolve() : source.touch(messages)),
    lag: () => (isDead() ? Promise.resolve(null) : source.lag()),
    close: () => source.close(),
  };
};

describe.each(['redis-stream', 'redis-list'] as const)('a trigger of %s', (type) => {
  let server: RedisServer | null = null;
  const runners: TriggerRunner[] = [];
  afterEach(async () => {
    await Promise.all(runners.splice(0).map((runner) => runner.close(0)));
    await server?.stop();
  });

  it('loses nothing while Redis is killed and a dispatcher dies', async () => {
    const redis = (server = await startRedis());
    const client = redis.client();
    const shapes: Record<typeof type, BrokerTrigger> = {
      'redis-stream': RedisStreamTrigger.parse({
        type: 'redis-stream',
        name: 'in',
        url: redis.url,
        stream: 's',
        startFrom: 'beginning',
        field: 'data',
        ...FAST,
      }),
      'redis-list': RedisListTrigger.parse({ type: 'redis-list', name: 'in', url: redis.url, list: 's', ...FAST }),
    };
    let calls = 0;
    let gone = false;
    /** What was done, and how often. */
    const done = new Map<string, number>();
    const dead = new Map<string, string>();
    const begin = (consumer: string, isDead: () => boolean): TriggerRunner => {
      const host = new TestHost(systemClock, consumer);
      host.answer(async (events) => {
        await sleep(1);
        if (consumer === 'dies' && ++calls > 5) gone = true;
        // Its process is gone: nobody hears of what it did last.
        if (isDead()) return new Promise(() => {});
        const failing = events.filter(({ data }) => POISON.has(data));
        for (const { data } of events) if (!POISON.has(data)) done.set(data, (done.get(data) ?? 0) + 1);
        return answered(200, { batchItemFailures: failing.map(({ id }) => ({ itemIdentifier: id })) });
      });
      const keep = host.store.addDead;
      host.store.addDead = async (letters) => {
        for (const { message, reason } of letters) dead.set(message, reason);
        return keep(letters);
      };
      const dying: OpenSource = async (options) => mortal(await open(options), isDead);
      const runner = new TriggerRunner({ host, of, trigger: shapes[type], open: dying });
      runners.push(runner);
      runner.start();
      return runner;
    };
    const send = (from: number, to: number) =>
      Promise.all(
        range(to - from).map((n) =>
          type === 'redis-stream' ? client.xadd('s', '*', 'data', `m${from + n}`) : client.lpush('s', `m${from + n}`),
        ),
      );

    begin('dies', () => gone);
    begin('lives', () => false);
    await send(0, COUNT / 3);
    await waitFor('some to be done', () => done.size > 50);
    // With messages in its hands: it died during a call.
    await waitFor('the death', () => gone);
    await redis.restart();
    await send(COUNT / 3, (2 * COUNT) / 3);
    await waitFor('more to be done', () => done.size > COUNT / 3, { timeoutMs: 60_000 });
    await redis.restart();
    await send((2 * COUNT) / 3, COUNT);
    await waitFor('all to be done', () => done.size === COUNT - POISON.size && dead.size === POISON.size, { timeoutMs: 60_000 });

    const missing = range(COUNT).filter((n) => !done.has(`m${n}`) && !POISON.has(`m${n}`));
    expect(missing).toEqual([]);
    expect([...dead.values()]).toEqual(['attempts', 'attempts', 'attempts']);
    await waitFor('an empty broker', async () =>
      type === 'redis-stream'
        ? Number(((await client.xpending('s', 'fn:default:orders:in')) as unknown[])[0]) === 0
        : (await client.llen('s')) === 0 && (await client.keys('fn:list:*:taken:*')).length === 0,
    );
  });
});
