/**
 * Functions that mean harm, on real containers: each attack hurts the function that makes it, its neighbour under a small
 * steady load never notices, and nothing is left. docs/security.md lists what contains which; security.test.ts and
 * limits.test.ts have what is asked of every instance, test/chaos what faults do.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAX_PIDS } from '../../controller/driver/docker/container.ts';
import { type Answer } from '../helpers/http.ts';
import { Load, tally } from '../helpers/load.ts';
import type { Deployed } from '../helpers/platform.ts';
import { onlyOn, usePlatform } from '../helpers/suite.ts';
import { range, sleep, waitFor } from '../helpers/wait.ts';

const HOSTILE = 'test/e2e/fixtures/hostile.ts';
const KERNEL = 'test/e2e/fixtures/kernel.py';

/** What one log flood writes, MiB; the long form is the gigabyte. */
const FLOOD_MIB = process.env.FN_CHAOS === 'full' ? 1_024 : 64;
/** What gateway or controller may grow by while a function floods its logs: a little of it is under way, none is kept. */
const MAX_GROWTH_MIB = 128;
/** Two files of two, and the block that is being written. */
const MAX_LOG_MIB = 6;

/** Folders of a process in each tree of control groups, by controller. */
function cgroupsOf(pid: number): Map<string, string> {
  const groups = new Map<string, string>();
  for (const line of readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n')) {
    const [, controllers = '', path = ''] = line.split(':');
    if (controllers === '') groups.set('unified', `/sys/fs/cgroup${path}`);
    else for (const name of controllers.split(',')) groups.set(name, `/sys/fs/cgroup/${controllers}${path}`);
  }
  return groups;
}

const residentMib = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;

const codeOf = (answer: Answer) => (answer.status === 200 ? 'ok' : answer.json<{ code: string }>().code);

describe.each(onlyOn('docker'))('hostile functions (%s)', (driver) => {
  const platform = usePlatform({ driver });
  let neighbour: Load;
  /** Deployments that are refused only when the time for loading is over: they wait for it beside the other attacks. */
  let loading: Promise<Deployed[]>;

  beforeAll(async () => {
    const deploy = (name: string, source: string, ...flags: string[]) => platform().deploy(name, source, { flags });
    await Promise.all([
      deploy('neighbour', `export default () => new Response('well');\n`, '--keep-alive', '600'),
      deploy('hostile', HOSTILE, '--timeout', '5', '--egress', 'none', '--concurrency', '4', '--max', '3'),
      deploy('kernel', KERNEL, '--egress', 'none'),
    ]);
    const lines = {
      endless: `await new Promise((resolve) => setInterval(resolve, 1e9));`,
      loop: `for (;;) if (Date.now() < 0) break;`,
      nothing: `await new Promise(() => {});`,
    };
    loading = Promise.all(
      Object.entries(lines).map(([name, line]) =>
        platform().deploy(`slow-${name}`, `${line}\nexport default () => new Response('never');\n`, { mayFail: true }),
      ),
    );
    neighbour = new Load({ url: (id) => `${platform().url}/neighbour?id=${id}`, connections: 2, pauseMs: 50 });
  });

  afterAll(async () => {
    const entries = await neighbour.stop();
    expect(tally(entries)).toEqual({});
    expect(entries.length).toBeGreaterThan(200);
    expect(entries.filter(({ body }) => body !== 'well')).toEqual([]);
  });

  const attack = (path: string, options = {}) => platform().call(`/hostile${path}`, { timeoutMs: 60_000, ...options });
  const honest = () => waitFor('the function to be well again', async () => (await attack('/')).text === '"honest"', { timeoutMs: 60_000 });
  /** The attacker's instance, and the process it is. */
  const attacker = async () => {
    await honest();
    const { pid, handle } = await platform().servingInstance('hostile');
    if (pid === undefined || handle === undefined) throw new Error('status does not tell the process of the instance');
    return { pid, handle };
  };
  const gone = (handle: string) =>
    waitFor(`${handle} to be gone`, async () => (await execa('docker', ['inspect', handle], { reject: false })).exitCode !== 0, {
      timeoutMs: 60_000,
    });

  it('a fork bomb has an end, and dies with the first process of its instance', async () => {
    const { pid, handle } = await attacker();
    const groups = cgroupsOf(pid);
    const pids = groups.get('pids') ?? groups.get('unified')!;
    expect(readFileSync(`${pids}/pids.max`, 'utf8').trim()).toBe(String(MAX_PIDS));
    // Its own memory may end it before the limit of processes does: then the answer says so.
    expect(['ok', 'function-oom', 'function-crashed', 'function-timeout']).toContain(codeOf(await attack('/fork')));
    for (const _ of range(5)) {
      if (existsSync(pids)) expect(Number(readFileSync(`${pids}/pids.current`, 'utf8'))).toBeLessThanOrEqual(MAX_PIDS);
      await sleep(100);
    }
    expect((await attack('/exit')).status).toBeGreaterThanOrEqual(502);
    await gone(handle);
    await waitFor('its group to be gone', () => !existsSync(pids));
    await honest();
  });

  it('files without content are memory, too: they end with the instance’s own', async () => {
    const filled = await attack('/inodes');
    if (filled.status === 200) expect(filled.json<{ code: string }>().code).toBe('ENOSPC');
    else expect(['function-oom', 'function-timeout']).toContain(codeOf(filled));
    await honest();
  });

  it('there is nothing to write to but /tmp, and message queues that nobody may make (below), and nothing that runs as somebody else', async () => {
    expect((await attack('/writable')).json()).toEqual({ writable: ['/dev/mqueue'], setuid: [] });
  });

  it('memory that grows slowly, in files and on the heap, is its own end', async () => {
    expect(['function-oom', 'function-timeout']).toContain(codeOf(await attack('/grow')));
    await honest();
  });

  it('a function that holds every file that it may open spoils its own calls only', async () => {
    expect((await attack('/fds')).status).toBeGreaterThanOrEqual(500);
    for (const answer of await Promise.all(range(4).map(() => attack('/')))) expect([200, 500, 502, 503, 504]).toContain(answer.status);
    await attack('/exit');
    await honest();
  });

  it.each(['line', 'lines', 'binary'])('a flood of logs (%s) is capped before it is kept or read', async (what) => {
    const { handle } = await attacker();
    const before = { gateway: residentMib(await platform().pid('gateway')), controller: residentMib(await platform().pid('controller')) };
    const flooded = await attack(`/logs?what=${what}&mib=${FLOOD_MIB}`, { timeoutMs: 60_000 });
    expect(['ok', 'function-timeout']).toContain(codeOf(flooded));
    for (const part of ['gateway', 'controller'] as const)
      expect(residentMib(await platform().pid(part)) - before[part]).toBeLessThan(MAX_GROWTH_MIB);
    const { stdout } = await execa('docker', ['inspect', '-f', '{{.LogPath}}', handle], { reject: false });
    if (stdout !== '') {
      // The engine renames them as it goes on: one that is not there at the moment was counted by its other name, or will be none.
      const bytes = [stdout, `${stdout}.1`].reduce((sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0);
      expect(bytes / 1024 ** 2).toBeLessThanOrEqual(MAX_LOG_MIB);
    }
    await honest();
  });

  it('lines that claim to be another’s are its own', async () => {
    expect((await attack('/forge')).text).toBe('"forged"');
    const own = await waitFor('the forged lines', async () => {
      const { stdout } = await platform().fnOk(['logs', 'hostile', '--json']);
      return stdout.includes('FORGED') && stdout;
    });
    for (const line of own.split('\n').filter((text) => text.includes('FORGED')))
      expect(JSON.parse(line)).toMatchObject({ revision: 'default/hostile@1', stream: 'out' });
    expect((await platform().fnOk(['logs', 'neighbour', '--json'])).stdout).not.toContain('FORGED');
  });

  it('processes that spin have the weight of one instance, and its quota', async () => {
    await attack('/spin');
    const weightOf = async (name: string) => {
      const { pid } = await platform().servingInstance(name);
      const groups = cgroupsOf(pid!);
      const cpu = groups.get('cpu') ?? groups.get('unified')!;
      const read = (file: string) => readFileSync(`${cpu}/${file}`, 'utf8').trim();
      return groups.has('cpu')
        ? { weight: read('cpu.shares'), quota: Number(read('cpu.cfs_quota_us')) / Number(read('cpu.cfs_period_us')) }
        : { weight: read('cpu.weight'), quota: Number(read('cpu.max').split(' ')[0]) / Number(read('cpu.max').split(' ')[1]) };
    };
    const [hog, other] = [await weightOf('hostile'), await weightOf('neighbour')];
    expect(hog.weight).toBe(other.weight);
    expect([hog.quota, other.quota]).toEqual([1, 1]);
    await attack('/exit');
    await honest();
  });

  it('code that never loads is refused in time, and leaves nothing', async () => {
    const refused = await loading;
    for (const { code, stderr } of refused) {
      expect(code).not.toBe(0);
      expect(stderr).toMatch(/did not finish loading|never settles|within \d+ s/);
    }
    await waitFor(
      'no instance of them',
      async () => !(await platform().status()).instances.some((one) => one.function?.startsWith('slow-')),
    );
  });

  it('a stream without end ends at the deadline, and looks cut off; so does a request that is never read', async () => {
    const { request } = await import('node:http');
    const ended = await new Promise<string>((resolve) => {
      const asked = request(`${platform().url}/hostile/endless`, (answer) => {
        answer.on('error', (error) => resolve(error.message)).on('end', () => resolve('complete'));
        answer.resume();
      });
      asked.on('error', (error) => resolve(error.message)).end();
    });
    expect(ended).toMatch(/aborted|reset|hang up/);
    expect(codeOf(await attack('/deaf', { method: 'POST', body: Buffer.alloc(5 * 1024 * 1024, 1) }))).toBe('function-timeout');
    await honest();
  });

  it('what is thrown after the answer ends the instance, not the next call', async () => {
    const { handle } = await attacker();
    expect((await attack('/later')).text).toBe('"answered"');
    await gone(handle);
    expect((await attack('/')).text).toBe('"honest"');
  });

  it('signals reach nobody but itself', async () => {
    // The first process of a container does not get signals from within that it has no handler for.
    expect((await attack('/stop')).json()).toEqual({ kill1: 'done', self: 'done' });
    const { handle } = await attacker();
    await attack('/terminate');
    // Whoever is with it in the moment of its end is told that it was lost.
    await gone(handle);
    await honest();
  });

  it('bytes that nobody asked for reach nobody', async () => {
    for (const _ of range(3)) {
      const asked = await attack('/unsolicited');
      expect(`${asked.status} ${asked.text}`).toMatch(/^200 \d+$/);
      // It writes after 30 ms, later on a busy machine: to whoever is there then it may say what it likes.
      await sleep(1_000);
      for (const answer of await Promise.all(range(4).map(() => attack('/')))) expect(answer.text).not.toContain('FORGED');
    }
    await honest();
  });

  it('a second init, or new code, is refused, whoever asks with whatever nonce', async () => {
    const { init, code } = (await attack('/second-init')).json<Record<string, { status: number }[]>>();
    for (const said of [...init!, ...code!]) expect(said.status).toBeGreaterThanOrEqual(400);
    expect((await attack('/')).text).toBe('"honest"');
    // Draining itself is its own loss: an instance that takes nothing more is not kept.
    await attack('/drain');
    await honest();
  });

  it('its own socket, full of connections, is its own trouble', async () => {
    expect((await attack('/flood-socket')).status).toBe(200);
    await honest();
    await attack('/exit');
    await honest();
  });

  it('prototypes and globals are its own: the platform goes on, and the next revision is as if nothing had been', async () => {
    await attack('/pollute');
    await sleep(60);
    for (const _ of range(3)) {
      const answer = await attack('/').catch((error: Error) => error.message);
      if (typeof answer !== 'string') expect(answer.headers['x-request-id']).toMatch(/^[\w-]+$/);
    }
    expect((await platform().fn(['status', '--json'])).code).toBe(0);
    await platform().deploy('hostile', HOSTILE, { flags: ['--timeout', '5', '--egress', 'none', '--concurrency', '4', '--max', '3'] });
    await honest();
  });

  it('the kernel refuses all that an instance has no need of', async () => {
    const asked = (await platform().call('/kernel/kernel')).json<Record<string, string>>();
    expect(Object.keys(asked).length).toBeGreaterThan(20);
    expect(Object.entries(asked).filter(([, answer]) => !/^(?:EPERM|EACCES|ENOSYS|EINVAL)$/.test(answer))).toEqual([]);
    const files = (await platform().call('/kernel/files')).json<Record<string, string>>();
    expect(Object.entries(files).filter(([, answer]) => !/^(?:EROFS|EACCES|EPERM|ENOENT|ENOTDIR|ENXIO|EMFILE)$/.test(answer))).toEqual([]);
  });

  it('egress none is none: no interface, no name, no address of either kind, no kind of socket', async () => {
    const { stdout } = await execa('ip', ['-o', 'addr']);
    const hosts = [...stdout.matchAll(/inet6? ([\da-f.:]+)/g)].map(([, address]) => address!);
    const port = platform().port;
    const targets = [
      ...new Set([...hosts, '127.0.0.1', '::1', '169.254.169.254', '8.8.8.8', '172.17.0.1', '2001:4860:4860::8888', 'fe80::1']),
    ];
    const body = JSON.stringify(
      targets.flatMap((host) => [
        [host, port],
        [host, 53],
      ]),
    );
    const { interfaces, dialled } = (await platform().call('/kernel/network', { method: 'POST', body })).json<{
      interfaces: string[];
      dialled: Record<string, string>;
    }>();
    // The kernel may give every namespace its tunnels, which lead nowhere.
    expect(interfaces.filter((name) => !/^(?:lo|tunl0|sit0|ip6tnl0|gre0|gretap0|erspan0|ip6gre0|ip_vti0|ip6_vti0)$/.test(name))).toEqual(
      [],
    );
    expect(Object.entries(dialled).filter(([, answer]) => answer === 'done')).toEqual([]);
    expect(Object.keys(dialled).length).toBeGreaterThan(20);
  });
});
