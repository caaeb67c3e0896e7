/** Where logs of functions are kept for a test. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { RedisLogs } from '../../controller/store/redis/logs.ts';
import { RedisRecords } from '../../controller/store/redis/records.ts';
import { openRedisStore, type RedisStore } from '../../controller/store/redis/store.ts';
import { openRedisFor, useRedis } from './store.adapters.ts';

export const INSTANCE = 'i-aaaaaaaaaaaa';
export const KEY = 'default/hello@1';
export const LOG = 'default/hello';

/** What a test has for itself. */
export interface Here {
  folder: string;
  /** Those that are open, and end with it; the newest is the last. */
  readonly stores: RedisStore[];
}

/** Starts a Redis for the file; each of its tests has a folder of its own, and with that a store of its own in Redis. */
export function useLogs(): Here {
  useRedis();
  const here: Here = { folder: '', stores: [] };
  beforeEach(async () => {
    here.folder = await mkdtemp(join(tmpdir(), 'fn-logs-'));
  });
  afterEach(async () => {
    await Promise.all(here.stores.splice(0).map((store) => store.close()));
    await rm(here.folder, { recursive: true, force: true });
  });
  return here;
}

/** As a controller that has just begun to lead: under a term of its own. */
export async function inRedis({ folder, stores }: Here, maxBytes = Infinity) {
  const store = await openRedisStore({ connection: await openRedisFor(folder), log: silentLog });
  stores.push(store);
  await store.raiseTerm();
  const { term } = store;
  return { files: new RedisLogs({ term, maxBytes }), records: new RedisRecords({ term, clock: systemClock, log: silentLog }) };
}
