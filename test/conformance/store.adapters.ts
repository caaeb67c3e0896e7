/** The stores that must all do the same. A new adapter adds a line to STORES. */
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { shortHash } from '#kit/ids.ts';
import { silentLog } from '#kit/log.ts';
import { parseStoreUrl } from '#kit/store-url.ts';
import { openRedis } from '../../controller/store/redis/connection.ts';
import { openRedisStore } from '../../controller/store/redis/store.ts';
import { IN_MEMORY, openSqliteStore } from '../../controller/store/sqlite/store.ts';
import type { Store } from '../../controller/store/types.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';

export interface StoreAdapter {
  name: string;
  /** What was written is there when it is opened again. */
  lasting: boolean;
  /** The same folder, the same store. */
  open(folder: string): Promise<Store>;
}

let redis: RedisServer | undefined;

/** In a suite that has STORES: a redis-server for all of its tests. */
export function useRedis(): () => RedisServer {
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis?.stop());
  return () => {
    if (redis === undefined) throw new Error('redis-server has not started');
    return redis;
  };
}

/** A connection with keys of its own for each folder. */
export async function openRedisFor(folder: string) {
  if (redis === undefined) throw new Error('useRedis() was not called');
  return openRedisAt(`${redis.url}?name=${shortHash(folder)}`);
}

/** A connection to a server of the test's own. */
export async function openRedisAt(url: string, more: { commandTimeoutMs?: number } = {}) {
  const address = parseStoreUrl(url);
  if (address.kind !== 'redis') throw new Error('not a Redis');
  return openRedis({ address, log: silentLog, clientName: 'fn-test', ...more });
}

export const STORES: StoreAdapter[] = [
  { name: 'sqlite, file', lasting: true, open: async (folder) => openSqliteStore({ path: join(folder, 'fn.db'), log: silentLog }) },
  { name: 'sqlite, memory', lasting: false, open: async () => openSqliteStore({ path: IN_MEMORY, log: silentLog }) },
  { name: 'redis', lasting: true, open: async (folder) => openRedisStore({ connection: await openRedisFor(folder), log: silentLog }) },
];
