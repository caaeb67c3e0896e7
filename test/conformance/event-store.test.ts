/** What every EventStore must do. A new adapter adds a line. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { silentLog } from '#kit/log.ts';
import type { EventStore } from '../../controller/store/events.ts';
import { openRedisEventStore } from '../../controller/store/redis/events.ts';
import { openSqliteEventStore } from '../../controller/store/sqlite/events.ts';
import { parseStoreUrl } from '#kit/store-url.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import type { EventStorePlace } from './event-store.fixture.ts';
import { eventStoreSuite } from './event-store.suite.ts';

async function sqlitePlace(): Promise<EventStorePlace> {
  const folder = await mkdtemp(join(tmpdir(), 'fn-events-'));
  const opened: EventStore[] = [];
  return {
    async open() {
      const store = openSqliteEventStore({ path: join(folder, 'events.db'), log: silentLog });
      opened.push(store);
      return store;
    },
    async end() {
      for (const store of opened) await store.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis({ appendfsync: 'no' });
});
afterAll(() => redis.stop());

let places = 0;
async function redisPlace(): Promise<EventStorePlace> {
  const address = parseStoreUrl(`${redis.url}?name=place-${places++}`);
  if (address.kind !== 'redis') throw new Error('not a Redis');
  const opened: EventStore[] = [];
  return {
    async open() {
      const store = await openRedisEventStore({ address, log: silentLog });
      opened.push(store);
      return store;
    },
    async end() {
      for (const store of opened) await store.close();
    },
  };
}

describe('event store: redis', () => {
  eventStoreSuite(redisPlace);
});

describe('event store: sqlite', () => {
  eventStoreSuite(sqlitePlace);
});
