/** What is known of instances, wherever it is kept: the same in files of a host and in Redis. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { FileRecords } from '../../controller/engine/records.ts';
import { RedisRecords } from '../../controller/store/redis/records.ts';
import { openRedisStore, type RedisStore } from '../../controller/store/redis/store.ts';
import type { InstanceRecord, InstanceRecords } from '../../controller/store/types.ts';
import { startRedis } from '../helpers/redis-server.ts';
import { waitFor } from '../helpers/wait.ts';
import { openRedisAt, openRedisFor, useRedis } from './store.adapters.ts';

const server = useRedis();
const stores: RedisStore[] = [];

const inRedis = async (folder: string): Promise<InstanceRecords> => {
  const store = await openRedisStore({ connection: await openRedisFor(folder), log: silentLog });
  stores.push(store);
  return new RedisRecords({ term: store.term, clock: systemClock, log: silentLog });
};

const KINDS: { name: string; open: (folder: string) => Promise<InstanceRecords> }[] = [
  { name: 'files', open: async (folder) => new FileRecords(join(folder, 'records')) },
  { name: 'redis', open: inRedis },
];

const idOf = (n: number) => `i-${String(n).padStart(12, '0')}`;
const record = (n: number, more: Partial<InstanceRecord> = {}): InstanceRecord => ({
  id: idOf(n),
  nonce: `nonce-${n}`,
  startedAt: '2026-01-01T00:00:00Z',
  createdAt: n,
  revision: null,
  memoryMib: 128,
  cpu: 0,
  secrets: {},
  initialised: false,
  ...more,
});

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-records-'));
});
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()));
  await rm(folder, { recursive: true, force: true });
});

describe.each(KINDS)('records of instances: $name', ({ open }) => {
  let records: InstanceRecords;
  beforeEach(async () => {
    records = await open(folder);
    expect(await records.load()).toEqual(new Map());
  });

  it('are there for the next controller, as they were written last', async () => {
    const last = record(2, { revision: 'default/hello@3', memoryMib: 64, cpu: 0.5, secrets: { KEY: 7 }, initialised: true });
    await records.write(record(1));
    await records.write(record(2));
    await records.write(last);
    const next = await open(folder);
    expect(await next.load()).toEqual(
      new Map([
        [idOf(1), record(1)],
        [idOf(2), last],
      ]),
    );
  });

  it('are many', async () => {
    const many = Array.from({ length: 1_500 }, (_, n) => record(n));
    for (let from = 0; from < many.length; from += 100) await Promise.all(many.slice(from, from + 100).map((one) => records.write(one)));
    expect(await (await open(folder)).load()).toEqual(new Map(many.map((one) => [one.id, one])));
    await records.prune(new Set([idOf(7)]));
    expect([...(await records.load()).keys()]).toEqual([idOf(7)]);
  });

  it('have the place of the reader beside them, also of one without a record', async () => {
    expect(await records.logPosition(idOf(1))).toBeNull();
    await records.writeLogPosition(idOf(1), '{"seq":1}');
    await records.writeLogPosition(idOf(1), '{"seq":2,"text":"ü"}');
    expect(await (await open(folder)).logPosition(idOf(1))).toBe('{"seq":2,"text":"ü"}');
    expect((await records.load()).size).toBe(0);
  });

  it('are removed with all that was kept of the instance; that may be said twice', async () => {
    await records.write(record(1));
    await records.writeLogPosition(idOf(1), 'x');
    await records.write(record(2));
    await records.remove(idOf(1));
    await records.remove(idOf(1));
    await records.remove('i-nobody000000');
    expect([...(await records.load()).keys()]).toEqual([idOf(2)]);
    expect(await records.logPosition(idOf(1))).toBeNull();
  });

  it('are pruned of what is not named, places too', async () => {
    for (const n of [1, 2, 3]) {
      await records.write(record(n));
      await records.writeLogPosition(idOf(n), String(n));
    }
    await records.writeLogPosition(idOf(4), '4');
    await records.prune(new Set([idOf(2)]));
    expect([...(await records.load()).keys()]).toEqual([idOf(2)]);
    expect(await Promise.all([1, 2, 3, 4].map((n) => records.logPosition(idOf(n))))).toEqual([null, '2', null, null]);
  });
});

describe('records of instances in Redis', () => {
  const leader = async () => {
    const store = await openRedisStore({ connection: await openRedisFor(folder), log: silentLog });
    stores.push(store);
    await store.raiseTerm();
    return { store, records: new RedisRecords({ term: store.term, clock: systemClock, log: silentLog }) };
  };

  it.each<[string, (records: InstanceRecords) => Promise<void>]>([
    ['write', (records) => records.write(record(1, { memoryMib: 512 }))],
    ['writeLogPosition', (records) => records.writeLogPosition(idOf(1), 'late')],
    ['remove', (records) => records.remove(idOf(1))],
    ['prune', (records) => records.prune(new Set())],
  ])('%s of a leader that was replaced is refused and changes nothing', async (_name, write) => {
    const one = await leader();
    await one.records.write(record(1));
    await one.records.writeLogPosition(idOf(1), 'x');
    const two = await leader();
    await expect(write(one.records)).rejects.toMatchObject({ code: 'not-leader' });
    expect(await two.records.load()).toEqual(new Map([[idOf(1), record(1)]]));
    expect(await two.records.logPosition(idOf(1))).toBe('x');
    await write(two.records);
  });

  it('one that cannot be read is left out', async () => {
    const { records, store } = await leader();
    await records.write(record(1));
    await records.write(record(2));
    const raw = server().client();
    await raw.hset(store.term.connection.key('instances'), idOf(1), '{"id":"i-00', idOf(3), JSON.stringify(record(4)));
    expect([...(await records.load()).keys()]).toEqual([idOf(2)]);
  });

  it('wait here while Redis is away, the newest word of each, and are written when it is back', async () => {
    const own = await startRedis({ settings: { appendonly: 'yes' } });
    try {
      const store = await openRedisStore({ connection: await openRedisAt(own.url), log: silentLog });
      stores.push(store);
      await store.raiseTerm();
      const records = new RedisRecords({ term: store.term, clock: systemClock, log: silentLog });
      await records.write(record(1));
      await records.write(record(2));
      await own.kill();
      await records.write(record(1, { initialised: true }));
      await records.write(record(3));
      await records.write(record(3, { memoryMib: 256 }));
      await records.remove(idOf(2));
      await expect(records.writeLogPosition(idOf(1), 'x')).rejects.toMatchObject({ code: 'store-unavailable' });
      await own.restart();
      const expected = new Map([record(1, { initialised: true }), record(3, { memoryMib: 256 })].map((one) => [one.id, one]));
      await waitFor('the records', async () => {
        expect(await records.load()).toEqual(expected);
        return true;
      });
    } finally {
      await own.stop();
    }
  });
});
