/** What a Redis tells of itself. */
import { Redis } from 'ioredis';
import { type RedisAddress, redisEndpoint } from '#kit/store-url.ts';
import type { RedisFacts } from './store.ts';

const ANSWER_TIMEOUT_MS = 3_000;
const SETTINGS = ['appendonly', 'appendfsync', 'save', 'maxmemory', 'maxmemory-policy', 'min-replicas-to-write'];

/** Asks a Redis for what it is set to. Throws where it cannot be asked; settings that it keeps to itself are null. */
export async function askRedis(address: RedisAddress): Promise<RedisFacts> {
  const redis = new Redis({
    ...redisEndpoint(address),
    lazyConnect: true,
    protocol: 2,
    disableClientInfo: true,
    connectTimeout: ANSWER_TIMEOUT_MS,
    commandTimeout: ANSWER_TIMEOUT_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  let failure: Error | null = null;
  redis.on('error', (error: Error) => (failure ??= error));
  try {
    await redis.connect();
    const info = await redis.info();
    const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? null;
    return {
      version: field('redis_version'),
      role: field('role'),
      replicas: Number(field('connected_slaves') ?? 0),
      diskFailed: field('aof_last_write_status') === 'err' || field('rdb_last_bgsave_status') === 'err',
      config: await settingsOf(redis),
    };
  } catch (error) {
    // What it said at first is the cause; that the connection is closed, the consequence.
    throw failure ?? error;
  } finally {
    redis.disconnect();
  }
}

/** One by one: Redis 6 takes one name at a time. null where it is forbidden. */
async function settingsOf(redis: { call(command: string, ...args: string[]): Promise<unknown> }): Promise<Record<string, string> | null> {
  const settings: Record<string, string> = {};
  try {
    for (const name of SETTINGS) {
      const pair = await redis.call('CONFIG', 'GET', name);
      if (Array.isArray(pair) && pair.length === 2) settings[name] = String(pair[1]);
    }
  } catch (error) {
    if (error instanceof Error && error.name === 'ReplyError') return null;
    throw error;
  }
  return settings;
}
