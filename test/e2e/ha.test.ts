/**
 * Two gateways and two controllers on one Redis: whoever leads may die, freeze or be replaced, and Redis may go away and come
 * back; warm traffic does not notice, one leads at a time, and what was answered is there.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { parseStoreUrl } from '#kit/store-url.ts';
import { openRedis } from '../../controller/store/redis/connection.ts';
import { openRedisStore } from '../../controller/store/redis/store.ts';
import { judge, Load } from '../helpers/load.ts';
import { startPlatform, type TestPlatform } from '../helpers/platform.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { waitFor } from '../helpers/wait.ts';

/** Longest wait for another to lead. It should take 7 s, as a lease lasts 6: how long it took is a figure. */
const TAKEOVER_MS = 60_000;
const PASSWORD = 'c4nary-pa55';
const FLAGS = ['--keep-alive', '600', '--timeout', '20'];

const source = (text: string) => `export default () => ${JSON.stringify(text)};\n`;

describe('two gateways and two controllers on one Redis', () => {
  let redis: RedisServer;
  let platform: TestPlatform;

  beforeAll(async () => {
    redis = await startRedis({ password: PASSWORD });
    platform = await startPlatform({
      driver: 'process',
      env: { FN_STORE: redis.url },
      upFlags: ['--gateways', '2', '--controllers', '2', '--store', `redis://127.0.0.1:${redis.port}/0`],
    });
    await platform.deploy('warm', source('warm'), { flags: FLAGS });
    await waitFor('both gateways', async () => (await platform.status()).gateways?.length === 2);
  });
  afterAll(async () => {
    const left = await platform?.dispose();
    await redis?.stop();
    expect(left ?? []).toEqual([]);
  });

  const children = (): Record<string, { pid: number }> =>
    (JSON.parse(readFileSync(join(platform.home, 'supervisor.json'), 'utf8')) as { children: Record<string, { pid: number }> }).children;

  /** Warm on both gateways: connections are spread by the kernel, each load has many. */
  async function underLoad(fault: () => Promise<void>) {
    const load = new Load({ url: (id) => `${platform.url}/warm?id=${id}`, connections: 8, pauseMs: 5, agentKeepAlive: false });
    await load.during(500);
    const faultAt = performance.now();
    await fault();
    await load.during(500);
    await load.tail(101, faultAt);
    return judge(await load.stop(), { faultAt });
  }

  /** The new leader, and how long it took. */
  async function takeover(from: number, since: number): Promise<number> {
    await waitFor('another to lead', async () => (await platform.status()).controller.pid !== from, { timeoutMs: TAKEOVER_MS });
    return Math.round(performance.now() - since);
  }

  it('are what fn status shows, and the password is nowhere', async () => {
    const stdout = await waitFor('the second controller to stand by', async () => {
      const said = (await platform.fnOk(['status'])).stdout;
      return /standby +controller/.test(said) && said;
    });
    const { controller } = await platform.status();
    expect(stdout).toContain(`pids `);
    expect(stdout).toMatch(new RegExp(`controller .*pid ${controller.pid}, .*leads`));
    expect(stdout).toMatch(/standby +controller(?:-2)? pid \d+/);
    expect(stdout).toContain(`store       redis://127.0.0.1:${redis.port}/0`);
    const told = readdirSync(join(platform.home, 'logs'))
      .filter((name) => name.includes('.log'))
      .map((name) => readFileSync(join(platform.home, 'logs', name), 'utf8'));
    for (const text of [stdout, readFileSync(join(platform.home, 'supervisor.json'), 'utf8'), ...told])
      expect(text).not.toContain(PASSWORD);
    for (const { pid } of Object.values(children())) expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(PASSWORD);
    const doctor = await platform.fn(['doctor']);
    expect(doctor.stdout).toMatch(/ok +store durability +appendfsync always/);
    // Functions and bundles are in Redis, none in a file.
    expect(existsSync(join(platform.home, 'fn.db'))).toBe(false);
  });

  it('kill -9 of the leader: the other takes over, no warm request fails, and one can deploy', async () => {
    const before = await platform.status();
    let ms = 0;
    const verdict = await underLoad(async () => {
      const since = performance.now();
      process.kill(before.controller.pid, 'SIGKILL');
      ms = await takeover(before.controller.pid, since);
    });
    console.log(`takeover after kill -9: ${ms} ms, ${verdict.sent} warm requests`);
    expect(verdict.failed).toEqual({});
    expect(verdict.goodTail).toBeGreaterThan(100);
    const after = await platform.status();
    expect(after.controller.term).toBeGreaterThan(before.controller.term);
    const known = before.instances.filter((one) => one.function === 'warm').map(({ id }) => id);
    await waitFor('those that were there', async () => {
      const adopted = new Set((await platform.instances('warm')).map(({ id }) => id));
      return known.length > 0 && known.every((id) => adopted.has(id));
    });
    await waitFor('both gateways', async () => (await platform.status()).gateways?.length === 2);
    const { url } = await platform.deploy('later', source('later'), { flags: FLAGS });
    expect((await platform.call(new URL(url).pathname)).text).toBe('later');
  });

  it('a leader that is frozen past its lease is replaced and comes back as nobody', async () => {
    const before = await platform.status();
    let ms = 0;
    const verdict = await underLoad(async () => {
      const since = performance.now();
      process.kill(before.controller.pid, 'SIGSTOP');
      ms = await takeover(before.controller.pid, since).catch(async (error: unknown) => {
        process.kill(before.controller.pid, 'SIGCONT');
        throw error;
      });
    });
    console.log(`takeover from a frozen leader: ${ms} ms, ${verdict.sent} warm requests`);
    expect(verdict.failed).toEqual({});
    // Who took over has ended it: nothing thaws. It is started again, to stand by.
    await waitFor('another to stand by', () => {
      const pids = Object.entries(children())
        .filter(([name]) => name.startsWith('controller'))
        .map(([, { pid }]) => pid);
      return pids.length === 2 && !pids.includes(before.controller.pid);
    });
    await waitFor('the old one to have ended', () => !existsSync(`/proc/${before.controller.pid}`));
    await platform.deploy('later', source('later still'), { flags: FLAGS });
    await waitFor('the new one', async () => (await platform.call('/later')).text === 'later still');
  });

  it('a leader whose term was raised by another writes nothing more, and ends itself', async () => {
    const address = parseStoreUrl(redis.url);
    if (address.kind !== 'redis') throw new Error('not a Redis');
    const store = await openRedisStore({ connection: await openRedis({ address, log: silentLog, clientName: 'fn-test' }), log: silentLog });
    let name = '';
    let refused = false;
    try {
      // A leader that hears of it before the deployment comes has been replaced by then, and the next one may accept: it is tried with that.
      for (let attempt = 0; !refused && attempt < 5; attempt++) {
        name = `never-${attempt}`;
        const { pid } = (await platform.status()).controller;
        await store.raiseTerm();
        refused = (await platform.fn(['deploy', platform.write(source('never')), '--name', name, ...FLAGS])).code !== 0;
        await takeover(pid, performance.now());
        await waitFor('the old one to have ended', () => !existsSync(`/proc/${pid}`));
      }
      expect(refused).toBe(true);
      expect(await store.getFunction('default', name)).toBeNull();
    } finally {
      await store.close();
    }
    await waitFor(
      'a deployment to work',
      async () => (await platform.deploy(name, source('after all'), { flags: FLAGS, mayFail: true })).code === 0,
    );
    expect((await platform.call(`/${name}`)).text).toBe('after all');
  });

  it('Redis is killed and started again: warm calls go on, a deployment says so meanwhile, and works after', async () => {
    await waitFor('warm again', async () => (await platform.call('/warm')).status === 200);
    const verdict = await underLoad(async () => {
      await redis.kill();
      const refused = await platform.fn(['deploy', platform.write(source('lost')), '--name', 'lost', ...FLAGS]);
      expect([refused.code, refused.stderr]).toEqual([expect.any(Number), expect.stringContaining(`redis://127.0.0.1:${redis.port}/0`)]);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).not.toContain(PASSWORD);
      await redis.restart();
    });
    expect(verdict.failed).toEqual({});
    expect(verdict.goodTail).toBeGreaterThan(50);
    await waitFor(
      'a deployment to work',
      async () => (await platform.deploy('found', source('found'), { flags: FLAGS, mayFail: true })).code === 0,
    );
    expect((await platform.call('/found')).text).toBe('found');
    // What was answered before the kill is there: appendfsync always.
    const { stdout } = await platform.fnOk(['list']);
    expect(stdout).toMatch(/later[\s\S]*warm/);
    expect(stdout).not.toContain('lost');
  });
});
