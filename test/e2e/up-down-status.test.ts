/** `fn up`, `fn status`, `fn down`, `fn doctor`: two processes under a supervisor, and nothing left after. */
import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PlatformStatus } from '#contract/api.ts';
import { call } from '../helpers/http.ts';
import { findLeaks, processesOf } from '../helpers/leaks.ts';
import { TestPlatform, freePort } from '../helpers/platform.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const HELLO = `export default { fetch: () => new Response('hello') };\n`;
/** Only root can start the gateway under another uid. */
const isRoot = process.getuid?.() === 0;

const uidOf = (pid: number) => Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
const groupsOf = (pid: number) => /^Groups:[^\S\n]*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]?.trim() ?? '';

for (const driver of drivers('docker', 'process')) {
  describe(`up, status, down (${driver})`, () => {
    const platform = usePlatform({ driver });

    it('status tells what runs, as JSON and for people', async () => {
      const status = PlatformStatus.parse(JSON.parse((await platform().fnOk(['status', '--json'])).stdout));
      expect(status.driver).toBe(driver);
      expect(status.gateway.url).toBe(platform().url);
      expect(status.gateway.pid).not.toBe(status.controller.pid);
      for (const pid of [status.gateway.pid!, status.controller.pid]) expect(() => process.kill(pid, 0)).not.toThrow();
      expect(status.budget.memoryMib).toBeGreaterThan(0);
      expect(status.runtimes.map((runtime) => runtime.name)).toContain('node');
      const text = await platform().fnOk(['status']);
      expect(text.stdout + text.stderr).toContain(platform().url);
    });

    it('the home and the control socket are for their owner only', async () => {
      expect(statSync(platform().home).mode & 0o777).toBe(0o700);
      expect(statSync(join(platform().runDir, 'control')).mode & 0o777).toBe(0o700);
    });

    // Started by anybody else it has that person's uid: only root can give a process another.
    it.runIf(isRoot)('the gateway runs with a uid of its own and no further group', async () => {
      const pid = await platform().pid('gateway');
      expect(uidOf(pid)).toBe(64777);
      expect(
        groupsOf(pid)
          .split(/\s+/)
          .filter((group) => group !== '' && group !== '64777'),
      ).toEqual([]);
    });

    it('a second up leaves the first alone and says so', async () => {
      const before = await platform().status();
      const second = await platform().fn([
        'up',
        '--detach',
        '--home',
        platform().home,
        '--port',
        String(platform().port),
        '--driver',
        driver,
      ]);
      expect(second.stderr + second.stdout).toMatch(/already|running/i);
      const after = await platform().status();
      expect(after.controller.pid).toBe(before.controller.pid);
      expect(after.gateway.pid).toBe(before.gateway.pid);
    });

    it('two that begin at once are one platform', async () => {
      await platform().down();
      const argv = ['up', '--detach', '--json', '--home', platform().home, '--port', String(platform().port), '--driver', driver];
      const both = await Promise.all([platform().fnOk(argv), platform().fnOk(argv)]);
      const [first, second] = both.map(({ stdout }) => JSON.parse(stdout) as { pid: number });
      expect(second).toEqual(first);
    });

    it('gateway and controller are started again when they die', async () => {
      for (const part of ['gateway', 'controller'] as const) {
        const before = await platform().pid(part);
        process.kill(before, 'SIGKILL');
        const after = await waitFor(`a new ${part}`, async () => {
          const pid = await platform().pid(part);
          return pid !== before && pid;
        });
        expect(after).not.toBe(before);
      }
      await platform().deploy('hello', HELLO);
      expect((await platform().call('/hello')).text).toBe('hello');
    });

    it('functions are there again after down and up', async () => {
      await platform().deploy('kept', HELLO, { flags: ['--memory', '64'] });
      expect((await platform().down()).code).toBe(0);
      expect(await findLeaks(platform())).toEqual([]);
      await expect(call(platform().url)).rejects.toThrow();
      await platform().up();
      expect((await platform().call('/kept')).text).toBe('hello');
    });

    it('status and down of a platform that is not up', async () => {
      const other = new TestPlatform({ driver }, await freePort());
      const status = await other.fn(['status', '--json']);
      expect(status.code).toBe(4);
      expect(status.stderr).not.toBe('');
      expect((await other.down()).code).toBe(0);
      expect(await other.dispose()).toEqual([]);
    });

    it('a port that is taken is said before anything starts', async () => {
      const blocker = createServer();
      await new Promise<void>((resolve) => blocker.listen(0, '0.0.0.0', resolve));
      const address = blocker.address();
      const other = new TestPlatform({ driver }, typeof address === 'object' && address !== null ? address.port : 0);
      try {
        await expect(other.up()).rejects.toThrow(new RegExp(String(other.port)));
        expect(processesOf(other)).toEqual([]);
      } finally {
        blocker.close();
        expect(await other.dispose()).toEqual([]);
      }
    });
  });
}

describe('fn doctor', () => {
  it('says what the machine has and lacks', async () => {
    const platform = new TestPlatform({ driver: 'docker' }, await freePort());
    try {
      const { stdout, stderr } = await platform.fn(['doctor', '--json']);
      const text = stdout + stderr;
      expect(JSON.parse(stdout)).toBeTypeOf('object');
      for (const word of [/engine|docker/i, /cgroup/i, /memory/i, /runc/i]) expect(text).toMatch(word);
    } finally {
      expect(await platform.dispose()).toEqual([]);
    }
  });
});

describe('the control API over TCP', () => {
  const listen = freePort();
  it('is there only with a token', async () => {
    const port = await listen;
    const platform = new TestPlatform({ driver: 'process', env: { FN_API_LISTEN: `127.0.0.1:${port}` } }, await freePort());
    try {
      await platform.up();
      const url = `http://127.0.0.1:${port}/v1/status`;
      const token = readFileSync(join(platform.home, 'token'), 'utf8').trim();
      expect(statSync(join(platform.home, 'token')).mode & 0o777).toBe(0o600);
      for (const authorization of [undefined, 'Bearer wrong', `Basic ${token}`]) {
        const refused = await call(url, authorization === undefined ? {} : { headers: { authorization } });
        expect(refused.status).toBe(401);
        expect(refused.headers['www-authenticate']).toMatch(/Bearer/);
        expect(refused.json()).toMatchObject({ code: 'unauthorized' });
      }
      const allowed = await call(url, { headers: { authorization: `Bearer ${token}` } });
      expect(PlatformStatus.parse(allowed.json()).driver).toBe('process');
      // Never on the public port.
      expect((await platform.call('/v1/status')).status).toBe(404);
    } finally {
      expect(await platform.dispose()).toEqual([]);
    }
  });
});
