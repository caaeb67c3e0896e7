/** Redis streams and lists as sources, against a real redis-server. */
import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { RedisListTrigger, RedisStreamTrigger, type TriggerOf } from '#contract/trigger.ts';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { openPublisher as openListPublisher } from '../../controller/triggers/redis-list/publisher.ts';
import { openList, openSource as openListSource } from '../../controller/triggers/redis-list/source.ts';
import { openPublisher as openStreamPublisher } from '../../controller/triggers/redis-stream/publisher.ts';
import { openStream, openSource as openStreamSource } from '../../controller/triggers/redis-stream/source.ts';
import type { Source } from '../../controller/triggers/types.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { waitFor } from '../helpers/wait.ts';
import { CANARY, type SourceKind, describeSource, direct, take, textOf } from './trigger.suite.ts';

let server: RedisServer | null = null;
let topics = 0;
const redis = (): RedisServer => {
  if (server === null) throw new Error('no redis-server runs');
  return server;
};
const PASSWORD = 'redis-test-password';

async function start(): Promise<void> {
  server ??= await startRedis({ password: PASSWORD });
}
const stop = async () => {
  await server?.stop();
  server = null;
};
afterAll(stop);

const common = {
  start,
  stop,
  restart: () => redis().restart(),
  shared: true,
};
/** The contract has no password in a URL; here they are filled in already. */
const filled = <T extends { url: string }>(trigger: T, url: string): T => ({ ...trigger, url });

const stream: SourceKind<TriggerOf<'redis-stream'>> = {
  ...common,
  name: 'redis-stream',
  open: openStreamSource,
  async bench() {
    const key = `stream ${++topics}`;
    const client = redis().client();
    const trigger = RedisStreamTrigger.parse({ type: 'redis-stream', name: 'in', url: 'redis://x', stream: key, field: 'data' });
    return {
      trigger: filled(trigger, redis().url),
      async send(bodies) {
        for (const body of bodies) await client.xadd(key, '*', 'data', Buffer.from(body as string));
      },
      async unacknowledged() {
        const groups = (await client.xinfo('GROUPS', key)) as (string | number)[][];
        return groups.reduce(
          (sum, group) => sum + Number(group[group.indexOf('pending') + 1]) + Number(group[group.indexOf('lag') + 1]),
          0,
        );
      },
      async remove() {
        await client.del(key);
        client.disconnect();
      },
    };
  },
  refused: (trigger) => filled(trigger, `redis://:${CANARY}@127.0.0.1:${redis().port}/0`),
  fromBeginning: (trigger) => ({ ...trigger, startFrom: 'beginning' }),
  keepsEarlier: false,
  counts: false,
};

describeSource(stream);

const list: SourceKind<TriggerOf<'redis-list'>> = {
  ...common,
  name: 'redis-list',
  open: openListSource,
  async bench() {
    const key = `list ${++topics}`;
    const client = redis().client();
    const trigger = RedisListTrigger.parse({ type: 'redis-list', name: 'in', url: 'redis://x', list: key });
    return {
      trigger: filled(trigger, redis().url),
      async send(bodies) {
        for (const body of bodies) await client.lpush(key, Buffer.from(body as string));
      },
      async unacknowledged() {
        const taken = await client.keys(`fn:list:*${key}*:taken:*`);
        const counts = await Promise.all(taken.map((hash) => client.hlen(hash)));
        return (await client.llen(key)) + counts.reduce((sum, count) => sum + count, 0);
      },
      async remove() {
        const all = await client.keys(`*${key}*`);
        await client.del(key, ...all);
        client.disconnect();
      },
    };
  },
  refused: (trigger) => filled(trigger, `redis://:${CANARY}@127.0.0.1:${redis().port}/0`),
  fromBeginning: null,
  keepsEarlier: true,
  counts: false,
};

describeSource(list);

const soon = { claimAfterMs: 4_000, aliveMs: 4_000 };
const options = { namespace: 'default', name: 'orders', installation: 'test', resolve: direct, clock: systemClock };
const never = () => new AbortController().signal;

describe('a Redis stream', () => {
  const opened: Source[] = [];
  const open = (trigger: TriggerOf<'redis-stream'>, consumer: string): Source => {
    const source = openStream({ ...options, trigger, consumer, log: silentLog }, soon);
    opened.push(source);
    return source;
  };
  const fresh = (more: object = {}) => {
    const parsed = RedisStreamTrigger.parse({ type: 'redis-stream', name: 'in', url: 'redis://x', stream: `own ${++topics}`, ...more });
    return filled({ ...parsed, startFrom: 'beginning' as const }, redis().url);
  };
  beforeAll(start);
  afterEach(() => Promise.all(opened.splice(0).map((source) => source.close())));

  it('gives what a silent consumer had to another, counts it, and takes no late word of the first', async () => {
    const trigger = fresh();
    const client = redis().client();
    await client.xadd(trigger.stream, '*', 'a', '1');
    const frozen = open(trigger, 'frozen');
    const [first] = await take(frozen, 1);
    const other = open(trigger, 'other');
    const [second] = await take(other, 1);
    expect([second!.id, second!.deliveries]).toEqual([first!.id, 2]);
    await frozen.touch([first!]);
    await expect(frozen.ack([first!])).rejects.toThrow('another consumer');
    expect(await client.xpending(trigger.stream, 'fn:default:orders:in')).toMatchObject([1, first!.id, first!.id, [['other', '1']]]);
    await other.ack([second!]);
    expect(((await client.xpending(trigger.stream, 'fn:default:orders:in')) as unknown[])[0]).toBe(0);
  });

  it('keeps what is touched for as long as that', async () => {
    const trigger = fresh();
    const client = redis().client();
    await client.xadd(trigger.stream, '*', 'a', '1');
    const one = open(trigger, 'one');
    const held = await take(one, 1);
    const other = open(trigger, 'other');
    const end = performance.now() + 2 * soon.claimAfterMs;
    while (performance.now() < end) {
      await one.touch(held);
      expect(await other.receive(1, 100, never())).toEqual([]);
    }
    await one.ack(held);
  });

  it('may be deleted, its group too: nothing that is sent afterwards is missed, nothing of before comes twice', async () => {
    const trigger = fresh();
    const client = redis().client();
    const source = open(trigger, 'one');
    await client.xadd(trigger.stream, '*', 'n', '1');
    await source.ack(await take(source, 1));
    await client.xgroup('DESTROY', trigger.stream, 'fn:default:orders:in');
    await client.xadd(trigger.stream, '*', 'n', '2');
    const second = await take(source, 1);
    expect(second.map(textOf)).toEqual(['{"n":"2"}']);
    await client.del(trigger.stream);
    await source.ack(second);
    await client.xadd(trigger.stream, '*', 'n', '3');
    expect((await take(source, 1)).map(textOf)).toEqual(['{"n":"3"}']);
  });

  it('loses no consumer that has something pending, and keeps none that has nothing', async () => {
    const trigger = fresh();
    const client = redis().client();
    await client.xadd(trigger.stream, '*', 'n', '1');
    const source = open(trigger, 'one');
    await take(source, 1);
    await source.close();
    const consumers = (await client.xinfo('CONSUMERS', trigger.stream, 'fn:default:orders:in')) as unknown[][];
    expect(consumers.map((consumer) => [consumer[1], consumer[3]])).toEqual([['fn:released', 1]]);
    const [again] = await take(open(trigger, 'two'), 1);
    expect(textOf(again!)).toBe('{"n":"1"}');
  });

  it('carries CloudEvents in fields, as they are sent by a destination, and in JSON', async () => {
    const trigger = fresh();
    const client = redis().client();
    const publisher = await openStreamPublisher({
      destination: { type: 'redis-stream', url: redis().url, stream: trigger.stream, maxLength: 1_000 },
      ...options,
      log: silentLog,
    });
    const attributes = {
      specversion: '1.0',
      id: 'e1',
      source: '/shop',
      type: 'order.paid',
      datacontenttype: 'text/plain',
      partitionkey: 'k',
    };
    await publisher.publish({ attributes, data: Buffer.from('héllo') });
    await publisher.close();
    const structured = { specversion: '1.0', id: 'e2', source: '/shop', type: 'order.paid', color: 'red', data: { a: 1 } };
    await client.xadd(trigger.stream, '*', 'data', JSON.stringify(structured), 'content-type', 'application/cloudevents+json');
    const [first, second] = await take(open(trigger, 'one'), 2);
    expect(first).toMatchObject({ id: 'e1', source: '/shop', type: 'order.paid', contentType: 'text/plain', orderKey: 'k' });
    expect(textOf(first!)).toBe('héllo');
    expect(second).toMatchObject({ id: 'e2', contentType: 'application/json', extensions: { color: 'red' } });
    expect(textOf(second!)).toBe('{"a":1}');
  });
});

/** A way to Redis that can be told to bring commands there and no answer back, as when one of both ends dies. */
async function cuttable(port: number): Promise<{ port: number; cut: boolean; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const socket of [near, far]) {
      sockets.add(socket);
      // The end of one is the end of both, whatever it was.
      socket.on('error', () => {});
      socket.once('close', () => (near.destroy(), far.destroy(), sockets.delete(socket)));
    }
    near.pipe(far);
    far.on('data', (data) => (way.cut ? near.destroy() : near.write(data)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const way = {
    port: (server.address() as AddressInfo).port,
    cut: false,
    async close() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
  return way;
}

describe('a Redis list', () => {
  const opened: Source[] = [];
  const open = (trigger: TriggerOf<'redis-list'>, consumer: string): Source => {
    const source = openList({ ...options, trigger, consumer, log: silentLog }, soon);
    opened.push(source);
    return source;
  };
  const fresh = (more: object = {}) =>
    filled(RedisListTrigger.parse({ type: 'redis-list', name: 'in', url: 'redis://x', list: `own ${++topics}`, ...more }), redis().url);
  beforeAll(start);
  afterEach(() => Promise.all(opened.splice(0).map((source) => source.close())));

  it.each(['right', 'left'] as const)('gets back what a dead consumer had, in its order, at its %s end', async (from) => {
    const trigger = fresh({ from });
    const client = redis().client();
    await (from === 'right' ? client.lpush(trigger.list, 'a', 'b', 'c', 'd') : client.rpush(trigger.list, 'a', 'b', 'c', 'd'));
    const dead = open(trigger, 'dead');
    const taken = await take(dead, 3);
    expect(taken.map(textOf)).toEqual(['a', 'b', 'c']);
    await dead.ack([taken[1]!]);
    const other = open(trigger, 'other');
    const again: typeof taken = [];
    // 'd' waits at the end of the line, and may be taken before the other one is known to be dead.
    while (again.length < 3) again.push(...(await other.receive(1, 500, never())));
    const back = again.filter((message) => textOf(message) !== 'd');
    expect(back.map(textOf)).toEqual(['a', 'c']);
    expect(back.map(({ id, deliveries }) => [id, deliveries])).toEqual([
      [taken[0]!.id, 2],
      [taken[2]!.id, 2],
    ]);
    await expect(dead.ack([taken[0]!])).rejects.toThrow('given back');
    await other.ack(again);
    expect(await client.keys(`*${trigger.list}*:taken:*`)).toEqual([]);
  });

  it('gives what it had taken when the answer was cut off, once, and not what is in work', async () => {
    const way = await cuttable(redis().port);
    onTestFinished(() => way.close());
    const trigger = fresh();
    const client = redis().client();
    const source = open({ ...trigger, url: trigger.url.replace(`:${redis().port}`, `:${way.port}`) }, 'one');
    await client.lpush(trigger.list, 'in work');
    const [inWork] = await take(source, 1);
    await client.lpush(trigger.list, 'cut off');
    way.cut = true;
    await waitFor('the message to be taken', async () => {
      await expect(source.receive(1, 1, never())).rejects.toThrow();
      return (await client.llen(trigger.list)) === 0;
    });
    way.cut = false;
    const [again] = await take(source, 1);
    expect([textOf(again!), again!.deliveries]).toEqual(['cut off', 1]);
    await source.ack([inWork!, again!]);
    expect(await source.receive(1, 300, never())).toEqual([]);
    expect(await client.keys(`*${trigger.list}*:taken:*`)).toEqual([]);
  });

  it('gives values that are the same ids of their own, and others may use it as ever', async () => {
    const trigger = fresh();
    const client = redis().client();
    await client.lpush(trigger.list, 'same', 'same', 'same');
    const source = open(trigger, 'one');
    const messages = await take(source, 3);
    expect(new Set(messages.map(({ id }) => id)).size).toBe(3);
    await source.release(messages);
    expect(await client.lrange(trigger.list, 0, -1)).toEqual(['same', 'same', 'same']);
    expect(await client.rpop(trigger.list)).toBe('same');
    const again = await take(source, 2);
    for (const { id } of again) expect(messages.map((message) => message.id)).toContain(id);
    expect(new Set(again.map(({ id }) => id)).size).toBe(2);
  });

  it('carries CloudEvents, as they are sent by a destination', async () => {
    const trigger = fresh();
    const publisher = await openListPublisher({
      destination: { type: 'redis-list', url: redis().url, list: trigger.list },
      ...options,
      log: silentLog,
    });
    const attributes = { specversion: '1.0', id: 'e1', source: '/shop', type: 'order.paid', datacontenttype: 'application/octet-stream' };
    await publisher.publish({ attributes, data: Uint8Array.from([0xff, 0x00]) });
    await publisher.close();
    const [message] = await take(open(trigger, 'one'), 1);
    expect(message).toMatchObject({ id: 'e1', source: '/shop', type: 'order.paid', contentType: 'application/octet-stream' });
    expect([...message!.data]).toEqual([0xff, 0x00]);
  });
});

describe('a publisher', () => {
  it('says that it could not send, within its time, and without the password', async () => {
    await start();
    const destination = { type: 'redis-list' as const, url: `redis://:${CANARY}@127.0.0.1:${redis().port}/0`, list: 'x' };
    const publisher = await openListPublisher({ destination, ...options, log: silentLog });
    const failure = await publisher.publish({ attributes: {}, data: Buffer.from('x') }).then(
      () => null,
      (error: unknown) => String(error),
    );
    expect(failure).toContain('redis://127.0.0.1');
    expect(failure).not.toContain(CANARY);
    await publisher.close();
  });
});
