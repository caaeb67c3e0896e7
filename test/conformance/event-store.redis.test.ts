/** What only the event store on Redis can meet: a Redis that dies, freezes, is full; and what it leaves behind in it. */
import { afterEach, describe, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { parseStoreUrl, type RedisAddress } from '#kit/store-url.ts';
import type { EventStore } from '../../controller/store/events.ts';
import { openRedis } from '../../controller/store/redis/connection.ts';
import { openRedisEventStore } from '../../controller/store/redis/events.ts';
import { CLAIM, ENQUEUE, RECOVER } from '../../controller/store/redis/events-scripts.ts';
import { eventArgs } from '../../controller/store/redis/events-codec.ts';
import { freePort } from '../helpers/platform.ts';
import { type RedisServer, type RedisServerOptions, startRedis } from '../helpers/redis-server.ts';
import { waitFor } from '../helpers/wait.ts';
import { claimAll, codeOf, dead, event, idOf, idsOf, LANE, letter, retry, succeeded, T } from './event-store.fixture.ts';

/** Short, so that a test of what freezes need not wait for long; longer than a machine stands still. */
const COMMAND_TIMEOUT_MS = 4_000;

let ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.toReversed()) await end();
  ends = [];
});

async function server(options: RedisServerOptions = {}): Promise<RedisServer> {
  const started = await startRedis({ appendfsync: 'always', ...options });
  ends.push(() => started.stop());
  return started;
}

function addressOf(url: string): RedisAddress {
  const address = parseStoreUrl(url);
  if (address.kind !== 'redis') throw new Error(`${url} is no Redis`);
  return address;
}

async function open(redis: RedisServer, commandTimeoutMs = COMMAND_TIMEOUT_MS): Promise<EventStore> {
  const store = await openRedisEventStore({ address: addressOf(redis.url), log: silentLog, commandTimeoutMs });
  ends.push(() => store.close());
  return store;
}

/** Until Redis answers again: the client dials it anew. */
const back = (store: EventStore) => waitFor('the store to answer', async () => (await codeOf(store.getState('x'))) === 'done');

describe('a Redis that dies', () => {
  it('leaves no call hanging; what resolved is there, and a call that is repeated makes no second event', async () => {
    const redis = await server();
    const store = await open(redis);
    await store.join('o1', T + 60_000);
    const isClaimed = (name: string): boolean => Number(name.slice(1)) % 2 === 0;
    const names = Array.from({ length: 3_000 }, (_, i) => `e${i}`);
    const outcomes = new Map<string, unknown>();
    const accepted: string[] = [];
    // Some are under way when it dies, and some are sent when it is dead already.
    const queue = [...names];
    const client = async () => {
      for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
        const outcome = await codeOf(store.enqueue([event(name)], T, isClaimed(name) ? 'o1' : undefined));
        outcomes.set(name, outcome);
        if (outcome !== 'done') continue;
        accepted.push(name);
        if (accepted.length === 1_000) await redis.kill();
      }
    };
    await Promise.all(Array.from({ length: 400 }, client));
    expect([outcomes.size, new Set(outcomes.values())]).toEqual([names.length, new Set(['done', 'store-unavailable'])]);
    expect(accepted.length).toBeGreaterThanOrEqual(1_000);

    await redis.restart();
    await back(store);
    for (const name of accepted) expect([name, (await store.get(idOf(name))) === null]).toEqual([name, false]);
    // All are asked for once more, as clients do that do not know.
    await Promise.all(names.map((name) => store.enqueue([event(name)], T)));
    const [lane] = await store.lanes(T);
    expect((lane?.waiting ?? 0) + (lane?.claimed ?? 0)).toBe(names.length);
    // Who was told of no claim of his has none: it can be had by asking.
    const rest = await claimAll(store, 'o1', T, LANE, 5_000);
    const known = new Set(accepted.filter(isClaimed));
    expect(new Set(idsOf(rest))).toEqual(new Set(names.filter((name) => !known.has(name)).map(idOf)));
  });

  it('keeps claims and what was settled', async () => {
    const redis = await server();
    const store = await open(redis);
    await store.join('o1', T + 60_000);
    await store.enqueue([event('a'), event('b', { orderKey: 'k' }), event('c', { orderKey: 'k' })], T);
    const [a, b] = await claimAll(store);
    expect(await store.settle([succeeded(a!)])).toEqual(['settled']);
    await redis.restart();
    await back(store);
    expect(await store.settle([succeeded(a!), succeeded(b!)])).toEqual(['fenced', 'settled']);
    expect(idsOf(await claimAll(store))).toEqual([idOf('c')]);
  });

  it('that is not there at the start is said within the time that is given', async () => {
    const address = addressOf(`redis://:secret@127.0.0.1:${await freePort()}`);
    const opened = openRedisEventStore({ address, log: silentLog, openTimeoutMs: 1_000 });
    await expect(opened).rejects.toMatchObject({ code: 'store-unavailable', message: expect.not.stringContaining('secret') as string });
  });
});

describe('a Redis that is frozen', () => {
  it('every call is told so in time; what it does later nobody is told of is undone, and nothing is lost or doubled', async () => {
    const redis = await server();
    const store = await open(redis);
    await store.join('o1', T + 60_000);
    await store.enqueue([event('a'), event('b')], T);
    redis.pause();
    const calls = [
      claimAll(store),
      store.enqueue([event('c')], T, 'o1'),
      store.enqueue([event('d')], T),
      store.settle([succeeded({ id: idOf('a'), fence: 1 })]),
      store.lanes(T),
      store.get(idOf('a')),
      store.beat('o1', T + 60_000),
    ];
    expect(await Promise.all(calls.map(codeOf))).toEqual(Array(calls.length).fill('store-unavailable'));
    redis.resume();
    await back(store);
    // What was sent before it froze is done by now, or never will be.
    const again = await store.enqueue([event('c'), event('d')], T);
    expect(again.map(({ id }) => id)).toEqual(['c', 'd'].map(idOf));
    const claims = await claimAll(store);
    expect(idsOf(claims).toSorted()).toEqual(['a', 'b', 'c', 'd'].map(idOf));
    expect(claims.map(({ deliveries }) => deliveries)).toEqual([1, 1, 1, 1]);
    expect(await store.settle(claims.map((claim) => succeeded(claim)))).toEqual(Array(4).fill('settled'));
    expect(await store.lanes(T)).toEqual([]);
  });

  it('a beat alone brings back what nobody was told of', async () => {
    const redis = await server();
    const store = await open(redis);
    const other = await open(redis);
    await store.join('o1', T + 60_000);
    await other.join('o2', T + 60_000);
    await store.enqueue([event('a')], T);
    redis.pause();
    expect(await codeOf(claimAll(store))).toBe('store-unavailable');
    redis.resume();
    await back(store);
    expect(await store.beat('o1', T + 60_000)).toBe(true);
    await back(other);
    expect(idsOf(await claimAll(other, 'o2'))).toEqual([idOf('a')]);
  });

  it('a call that was given up does nothing when it arrives after all', async () => {
    const redis = await server();
    const store = await open(redis);
    await store.join('o1', T + 60_000);
    await store.enqueue([event('a')], T);
    const raw = await openRedis({ address: addressOf(redis.url), log: silentLog, clientName: 'late' });
    ends.push(async () => raw.close());
    const keys = [raw.key('ev:')];
    expect(await raw.run(RECOVER, keys, ['o1', 'token'])).toBe(0);
    expect(await codeOf(raw.run(CLAIM, keys, ['o1', 'token', T, 1_000, LANE, 5]))).toBe('store-unavailable');
    expect(await codeOf(raw.run(ENQUEUE, keys, ['o1', 'token', T, 1, ...eventArgs(event('b'))]))).toBe('store-unavailable');
    expect(await store.lanes(T)).toMatchObject([{ waiting: 1, claimed: 0 }]);
  });
});

describe('a Redis that is full', () => {
  it('refuses what does not fit as a whole, and goes on with what is there', async () => {
    const redis = await server({ appendfsync: 'off', settings: { maxmemory: '24mb' } });
    const store = await open(redis);
    await store.join('o1', T + 60_000);
    const payload = new Uint8Array(500_000);
    const outcomes: unknown[] = [];
    for (let i = 0; i < 60; i++) {
      const call = store.enqueue([event(`e${i}`, { payload, dedup: { key: `k${i}`, fingerprint: 'f', until: T + 9 } })], T);
      outcomes.push(await codeOf(call));
    }
    expect(new Set(outcomes)).toEqual(new Set(['done', 'store-unavailable']));
    const accepted = outcomes.filter((outcome) => outcome === 'done').length;
    expect(await store.lanes(T)).toMatchObject([{ waiting: accepted }]);
    expect(await store.list('default', 'f', { limit: 100 })).toHaveLength(accepted);
  });
});

it('large calls go in parts, in their order', async () => {
  const redis = await server({ appendfsync: 'no' });
  const store = await open(redis);
  await store.join('o1', T + 60_000);
  const many = Array.from({ length: 2_300 }, (_, i) => event(`n${i}`));
  const large = Array.from({ length: 12 }, (_, i) =>
    event(`l${i}`, { lane: 'default/g', name: 'g', payload: new Uint8Array(1_000_000).fill(i) }),
  );
  const outcomes = await store.enqueue([...many, ...large], T);
  expect(idsOf(outcomes)).toEqual(idsOf([...many, ...large]));
  const lanes = [
    { lane: 'default/g', limit: 11 },
    { lane: LANE, limit: 5_000 },
  ];
  const claims = await store.claim('o1', lanes, T);
  expect(idsOf(claims)).toEqual(expect.arrayContaining(idsOf([...large.slice(0, 11), ...many])));
  expect(claims).toHaveLength(2_311);
  expect(idsOf(claims.filter((claim) => claim.event.lane === LANE))).toEqual(idsOf(many));
  expect(claims.filter(({ event: { lane, payload } }) => lane !== LANE && payload.length === 1_000_000)).toHaveLength(11);
  expect(new Set(await store.settle(claims.map((claim) => succeeded(claim))))).toEqual(new Set(['settled']));
  expect(await store.prune(T + 1_000, 2_000)).toBe(2_000);
  expect(await store.prune(T + 1_000, 2_000)).toBe(311);
});

it('nothing is left in Redis of what is over, and all keys are in one slot', async () => {
  const redis = await server({ appendfsync: 'no' });
  const store = await open(redis);
  await store.join('o1', T + 60_000);
  const dedup = { key: 'k', fingerprint: 'f', until: T + 1_000 };
  const events = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) =>
    event(name, { orderKey: name < 'd' ? 'o' : null, trigger: name === 'e' ? 't' : null }),
  );
  await store.enqueue([...events, event('g', { dedup }), event('h', { lane: 'default/h', name: 'h', orderKey: 'o', dedup })], T);
  await store.addDead([letter('x'), letter('y')]);
  const [a, d, e] = await claimAll(store);
  await store.settle([succeeded(a!), dead(d!), retry(e!)]);
  await store.cancel(idOf('f'), T, T + 1_000);
  await store.redrive([idOf('y')], T, T + 9);
  await store.purge([idOf('x')]);
  const raw = redis.client();
  const keys = await raw.keys('*');
  expect(keys.length).toBeGreaterThan(20);
  expect(keys.filter((key) => !key.startsWith('fn:{main}:ev:'))).toEqual([]);
  await store.forget('default', 'f');
  await store.forget('default', 'h');
  await store.prune(T + 9_999, 1_000);
  await store.leave('o1', T);
  expect(await raw.keys('*')).toEqual(['fn:{main}:ev:seq']);
});
