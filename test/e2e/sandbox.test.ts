/**
 * `sandbox: gvisor`: another kernel between a function and the host's. Where the engine knows the runtime `runsc` (docs/security.md
 * says how it gets it): what works there is what works elsewhere. Everywhere: a sandbox that is none is refused, and how it says so.
 */
import { execaSync } from 'execa';
import { beforeAll, describe, expect, it } from 'vitest';
import { onlyOn, usePlatform } from '../helpers/suite.ts';
import { range, waitFor } from '../helpers/wait.ts';

const PROBE = `
import { readFileSync, readdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
const held = [];
const attempt = (action) => { try { action(); return 'done'; } catch (error) { return error.code ?? String(error); } };
const dial = (target) => new Promise((resolve) => {
  const socket = connect(target);
  const timer = setTimeout(() => { socket.destroy(); resolve('silence'); }, 1_000);
  const finish = (word) => { clearTimeout(timer); socket.destroy(); resolve(word); };
  socket.on('connect', () => finish('open')).on('error', (error) => finish(error.code));
});
export default async (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === '/oom') for (;;) held.push(Buffer.alloc(8 << 20, 1));
  if (pathname === '/exit') process.exit(3);
  if (pathname === '/spin') for (;;) if (Date.now() < 0) break;
  if (pathname === '/dial') return Response.json(await Promise.all((await request.json()).map(dial)));
  if (pathname === '/seal') return Response.json([
    attempt(() => unlinkSync('/fn/sock/s')), attempt(() => symlinkSync('/tmp', '/fn/sock/x')), attempt(() => writeFileSync('/fn/sock/y', '')),
    attempt(() => writeFileSync('/fn/code/y', '')), attempt(() => writeFileSync('/etc/y', '')), await dial({ path: '/fn/sock/s' }),
  ]);
  console.log('said in the sandbox');
  return Response.json({ kernel: readFileSync('/proc/version', 'utf8'), interfaces: Object.keys(networkInterfaces()), body: await request.text() });
};
`;

const runtimes = execaSync('docker', ['info', '-f', '{{json .Runtimes}}'], { reject: false }).stdout;
const hasGvisor = /"runsc":\{[^}]*--host-uds=(?:create|all)/.test(runtimes);

describe.each(onlyOn('docker'))('sandboxes (%s)', (driver) => {
  const platform = usePlatform({ driver });

  it('one that is not there is refused at deployment, with what there is', async () => {
    const refused = await platform().deploy('boxed', PROBE, { file: 'probe.mjs', flags: ['--sandbox', 'nope'], mayFail: true });
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain(
      hasGvisor ? 'There is no sandbox nope here; there is: gvisor.' : 'The docker driver has no sandboxes here',
    );
  });

  describe('gvisor', () => {
    beforeAll(async () => {
      // An engine that npm test starts has it; one that ran before has what its owner gave it.
      if (!hasGvisor)
        throw new Error('the Docker engine has no runsc that may make sockets: add it to /etc/docker/daemon.json (docs/security.md)');
      const flags = ['--sandbox', 'gvisor', '--memory', '256', '--timeout', '8', '--egress', 'none'];
      await platform().deploy('boxed', PROBE, { file: 'probe.mjs', flags });
    });
    const asked = (path = '', options = {}) => platform().call(`/boxed${path}`, options);

    it('serves, on a kernel that is not the host’s, with bodies both ways', async () => {
      for (const _ of range(5)) {
        const { kernel, body } = (await asked('', { method: 'POST', body: 'x'.repeat(100_000) })).json<{ kernel: string; body: string }>();
        expect(kernel).toMatch(/^Linux version 4\.4\.0/);
        expect(body).toHaveLength(100_000);
      }
      await waitFor('its logs', async () => (await platform().fnOk(['logs', 'boxed'])).stdout.includes('said in the sandbox'));
    });

    it('out of memory, an exit and an endless loop are told apart as everywhere', async () => {
      for (const [path, status, code] of [
        ['/oom', 502, 'function-oom'],
        ['/exit', 502, 'function-crashed'],
        ['/spin', 504, 'function-timeout'],
      ]) {
        const answer = await asked(String(path));
        expect([answer.status, answer.json<{ code: string }>().code]).toEqual([status, code]);
        expect((await asked()).status).toBe(200);
      }
    });

    it('its socket is the platform’s, and nobody else’s socket can be dialled', async () => {
      for (const answer of (await asked('/seal')).json<string[]>()) expect(answer).toMatch(/^(?:EACCES|EPERM|EROFS|ENOENT)$/);
    });

    it('is frozen while it is idle, and thaws for a request', async () => {
      await asked();
      await waitFor('it to be frozen', async () => (await platform().instances('boxed')).some(({ state }) => state === 'frozen'), {
        timeoutMs: 60_000,
      });
      expect((await asked()).status).toBe(200);
    });

    it('has no network without egress, and the filtered one with it', async () => {
      const { interfaces } = (await asked()).json<{ interfaces: string[] }>();
      expect(interfaces.filter((name) => name !== 'lo')).toEqual([]);
      const targets = [
        { host: '127.0.0.1', port: platform().port },
        { host: '169.254.169.254', port: 80 },
        { host: '172.17.0.1', port: platform().port },
        { host: '::1', port: platform().port },
      ];
      const body = JSON.stringify(targets);
      expect((await asked('/dial', { method: 'POST', body })).json<string[]>()).not.toContain('open');
      await platform().deploy('boxed-out', PROBE, { file: 'probe.mjs', flags: ['--sandbox', 'gvisor', '--memory', '256'] });
      expect((await platform().call('/boxed-out/dial', { method: 'POST', body })).json<string[]>()).not.toContain('open');
    });
  });
});
