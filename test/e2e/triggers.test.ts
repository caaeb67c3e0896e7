/** Triggers as users meet them: fn.yaml names them, a real Redis brings messages, a clock ticks, GitHub calls. */
import { createHmac } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { range, waitFor } from '../helpers/wait.ts';

/** Keeps what it was called with; messages named "poison" fail. */
const WORKER = `
const seen = [];
export default {
  queue(batch) {
    for (const message of batch.messages) {
      seen.push({ id: message.id, body: message.body, attempt: message.attempts });
      if (message.body.name === 'poison' && !globalThis.healed) message.retry();
      else message.ack();
    }
  },
  scheduled(event) {
    seen.push({ id: event.id, tick: event.scheduledTime, data: event.data });
  },
  fetch(request) {
    if (new URL(request.url).pathname === '/heal') globalThis.healed = true;
    return Response.json(seen);
  },
};
`;

const PASSWORD = 'redis-e2e-password';

const manifest = (port: number): string => `
functions:
  worker:
    entry: ./worker.js
    max: 1
    triggers:
      - type: redis-stream
        name: orders
        url: redis://:\${secret:REDIS_PASSWORD}@127.0.0.1:${port}
        stream: orders
        startFrom: beginning
        batchSize: 10
        batchWindow: 100ms
        maxAttempts: 3
        retry: { base: 10ms, max: 50ms }
      - { type: redis-list, name: jobs, url: "redis://:\${secret:REDIS_PASSWORD}@127.0.0.1:${port}", list: jobs }
      - { webhook: github, name: hub, secret: HUB_SECRET }
  clock:
    entry: ./worker.js
    max: 1
    triggers:
      - { cron: '*/1 * * * * *', name: second, timezone: Europe/Berlin, missed: skip, data: { a: 1 } }
`;

interface Seen {
  id: string;
  body?: { name: string };
  attempt?: number;
  tick?: number;
  data?: unknown;
}

describe.each(drivers('process'))('triggers (%s)', (driver) => {
  const platform = usePlatform({ driver });
  let server: RedisServer;
  let redis: Redis;
  let folder: string;

  const ok = async (...args: string[]): Promise<string> => (await platform().fnOk(args, { cwd: folder })).stdout;
  const seen = async (name = 'worker'): Promise<Seen[]> => (await platform().call(`/${name}`)).json() as Seen[];
  const named = async (name: string): Promise<Seen[]> => (await seen()).filter(({ body }) => body?.name === name);
  const send = (...names: string[]) => Promise.all(names.map((name) => redis.xadd('orders', '*', 'name', name)));
  const status = async (trigger: string, name = 'worker') => {
    const { triggers } = JSON.parse(await ok('trigger', 'list', name, '--json')) as {
      triggers: { trigger: { name: string }; status: Record<string, unknown> }[];
    };
    return triggers.find((one) => one.trigger.name === trigger)?.status;
  };
  /** What the group of the stream has not had acknowledged. */
  const pending = async (): Promise<number> => Number(((await redis.xpending('orders', 'fn:default:worker:orders')) as unknown[])[0]);

  beforeAll(async () => {
    server = await startRedis({ password: PASSWORD });
    redis = server.client();
    folder = join(platform().home, 'project');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'worker.js'), WORKER);
    writeFileSync(join(folder, 'fn.yaml'), manifest(server.port));
    await platform().fnOk(['secret', 'set', 'REDIS_PASSWORD'], { input: PASSWORD });
    await platform().fnOk(['secret', 'set', 'HUB_SECRET'], { input: 'hub secret' });
    await send('waiting');
    await ok('deploy');
  });
  afterAll(async () => {
    await server.stop();
  });

  it('bring what waited, and what comes, and acknowledge it', async () => {
    await waitFor('the one that waited', async () => (await named('waiting')).length > 0);
    await send(...range(25).map((n) => `m${n}`));
    await waitFor('all of them', async () => new Set((await seen()).map(({ body }) => body?.name)).size >= 26);
    await waitFor('their acknowledgement', async () => (await pending()) === 0);
    await redis.lpush('jobs', '{"name":"job"}');
    await waitFor('the job', async () => (await named('job')).length === 1);
    await waitFor('its acknowledgement', async () => (await redis.keys('fn:list:*:taken:*')).length === 0);
    const ids = (await seen()).map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('keep what failed for the last time, and try it again when told to', async () => {
    await send('fine', 'poison', 'fine too');
    await waitFor('the dead letter', async () => (await ok('dlq', 'list', 'worker', '--json')).includes('"attempts"'));
    expect((await named('poison')).map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    // It may have come in the batch after the other two.
    await waitFor('the last one', async () => (await named('fine too')).length > 0);
    expect([(await named('fine')).length, (await named('fine too')).length]).toEqual([1, 1]);
    await waitFor('its acknowledgement', async () => (await pending()) === 0);
    const { deadLetters } = JSON.parse(await ok('dlq', 'list', 'worker', '--json')) as {
      deadLetters: { trigger: string; reason: string; attempts: number }[];
    };
    expect(deadLetters).toMatchObject([{ trigger: 'orders', reason: 'attempts', attempts: 3 }]);
    await platform().call('/worker/heal');
    await ok('dlq', 'redrive', 'worker', '--all');
    await waitFor('another try', async () => (await named('poison')).length === 4);
    await waitFor('an empty queue', async () => (JSON.parse(await ok('dlq', 'list', 'worker', '--json')) as { total: number }).total === 0);
  });

  it('take nothing while they are paused, and go on when they are resumed', async () => {
    await ok('trigger', 'pause', 'worker', 'orders');
    await waitFor('the pause', async () => (await status('orders'))?.state === 'paused');
    await send('while paused');
    await redis.lpush('jobs', '{"name":"beside"}');
    await waitFor('another trigger', async () => (await named('beside')).length === 1);
    expect(await named('while paused')).toEqual([]);
    await ok('trigger', 'resume', 'worker', 'orders');
    await waitFor('what was sent meanwhile', async () => (await named('while paused')).length === 1);
  });

  it('tell of a broker that is away, and go on when it is back, with nothing lost', async () => {
    await server.kill();
    await waitFor('the failure', async () => (await status('orders'))?.state === 'failing', { timeoutMs: 60_000 });
    const text = JSON.stringify(await status('orders'));
    expect(text).not.toContain(PASSWORD);
    await server.restart();
    await send('after');
    await waitFor('a message', async () => (await named('after')).length > 0, { timeoutMs: 60_000 });
    await waitFor('the state', async () => (await status('orders'))?.state === 'running', { timeoutMs: 60_000 });
  });

  it('tick, each time once', async () => {
    await waitFor('ticks', async () => (await seen('clock')).length >= 4, { timeoutMs: 60_000 });
    const ticks = await seen('clock');
    expect(new Set(ticks.map(({ tick }) => tick)).size).toBe(ticks.length);
    for (const { tick, data } of ticks) expect([tick! % 1_000, data]).toEqual([0, { a: 1 }]);
    expect(await status('second', 'clock')).toMatchObject({ state: 'running' });
    await ok('trigger', 'remove', 'clock', 'second');
  });

  it('take signed webhooks, each delivery once, and no others', async () => {
    const body = '{"name":"pushed"}';
    const headers = {
      'content-type': 'application/json',
      'x-github-delivery': 'd-1',
      'x-hub-signature-256': `sha256=${createHmac('sha256', 'hub secret').update(body).digest('hex')}`,
    };
    const deliver = (path = '/.fn/webhooks/worker/hub', text = body) => platform().call(path, { method: 'POST', headers, body: text });
    const first = await deliver();
    const second = await deliver();
    expect([first.status, second.status]).toEqual([202, 202]);
    expect(second.json()).toEqual(first.json());
    await waitFor('the delivery', async () => (await named('pushed')).length === 1);
    expect((await deliver('/.fn/webhooks/worker/hub', '{"name":"forged"}')).status).toBe(401);
    const nowhere = [await deliver('/.fn/webhooks/worker/none'), await deliver('/.fn/webhooks/nobody/hub')];
    expect(nowhere.map(({ status }) => status)).toEqual([404, 404]);
    expect(await named('forged')).toEqual([]);
  });
});
