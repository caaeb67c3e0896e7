/** Redis streams and lists as sources, against a real redis-server. */
import { afterAll } from 'vitest';
import { RedisStreamTrigger, type TriggerOf } from '#contract/trigger.ts';
import { openSource as openStreamSource } from '../../controller/triggers/redis-stream/source.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { CANARY, type SourceKind, describeSource } from './trigger.suite.ts';

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
