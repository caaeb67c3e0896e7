import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmdirSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { homePaths } from '#kit/paths.ts';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import { readBody, request } from '../http.ts';
import { identify, isAlive } from '../process-identity.ts';
import { root } from '../root.ts';
import { readState, writeState } from '../state.ts';
import type { SupervisorEvent, SupervisorOptions } from './options.ts';
import { Supervisor } from './supervisor.ts';

const PROGRAMS = {
  controller: [join(root, 'test/helpers/cli-stub-controller.ts')],
  gateway: [join(root, 'test/helpers/cli-stub-gateway.ts')],
};

function supervisor({
  port = 0,
  env = {},
  home = temporaryFolder(onTestFinished),
  tls,
  ...more
}: Partial<SupervisorOptions> & { env?: NodeJS.ProcessEnv } = {}) {
  const events: SupervisorEvent[] = [];
  const started = new Supervisor(
    { ...more, home, host: '127.0.0.1', port, driver: 'process', ...(tls === undefined ? {} : { tls }) },
    {
      env: { ...process.env, FN_LOG_LEVEL: 'silent', ...env },
      report: (event) => void events.push(event),
      programs: PROGRAMS,
      logLevel: 'silent',
    },
  );
  onTestFinished(() => started.stop());
  return { started, events, paths: homePaths(home) };
}

async function ask(url: string): Promise<string> {
  const reply = await request({ url: new URL(url) }, { method: 'GET', path: '/', timeoutMs: 30_000 });
  return (await readBody(reply, 1_000)).toString();
}

describe('a supervisor', () => {
  it('starts both processes, tells where they are, and leaves nothing behind', async () => {
    const { started, events, paths } = supervisor();
    const state = await started.start();
    expect(await ask(state.url)).toBe(String(readState(paths)?.children.gateway?.pid));
    expect(readState(paths)).toEqual(state);
    expect(events.at(-1)).toEqual({ type: 'ready', url: state.url, driver: 'process', pid: process.pid });
    await started.stop();
    await started.stop();
    expect(existsSync(paths.runDir)).toBe(false);
    expect(readState(paths)).toBeNull();
    for (const child of Object.values(state.children)) expect(isAlive(child)).toBe(false);
    // The controller ended when it was asked: nobody had to clean up after it.
    expect(existsSync(join(paths.home, 'cleaned-up'))).toBe(false);
  });

  it('runs as many gateways and controllers as it is told, on one port, each with a log of its own, and ends them all', async () => {
    const { started, paths } = supervisor({
      gateways: 3,
      controllers: 2,
      store: 'redis://127.0.0.1:1/0',
      env: { FN_STORE: 'redis://:c4nary@127.0.0.1:1/0' },
    });
    const state = await started.start();
    const names = ['controller', 'controller-2', 'gateway', 'gateway-2', 'gateway-3'];
    expect(Object.keys(state.children).toSorted()).toEqual(names);
    const pids = new Set<string>();
    while (pids.size < 3) pids.add(await ask(state.url));
    expect([...pids].toSorted()).toEqual(
      names
        .slice(2)
        .map((name) => String(state.children[name]!.pid))
        .toSorted(),
    );
    for (const name of names) expect(existsSync(join(paths.logs, `${name}.log`))).toBe(true);
    const environ = (name: string) =>
      readFileSync(`/proc/${state.children[name]!.pid}/environ`, 'utf8')
        .split('\0')
        .filter((entry) => /^FN_(?:STORE|STANDBY|GATEWAY_ID|EVENTS_SOCKET)=/.test(entry))
        .toSorted();
    // Nobody waited for it: between fork and exec it still has the environment of its parent.
    await waitFor('the second controller', () => environ('controller-2').length > 0);
    expect(environ('controller-2')).toEqual(['FN_STANDBY=1', 'FN_STORE=redis://:c4nary@127.0.0.1:1/0']);
    expect(environ('gateway-2')).toEqual([`FN_EVENTS_SOCKET=${paths.eventsSocket}`, `FN_GATEWAY_ID=gw-${paths.homeId}-2`]);
    // The password is where who may read the environment of our processes reads it, and nowhere else.
    expect(readFileSync(paths.supervisorFile, 'utf8')).toContain('redis://127.0.0.1:1/0');
    for (const file of [paths.supervisorFile, ...names.map((name) => join(paths.logs, `${name}.log`))])
      expect(readFileSync(file, 'utf8')).not.toContain('c4nary');
    for (const { pid } of Object.values(state.children)) expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toContain('c4nary');
    await started.stop();
    for (const child of Object.values(state.children)) expect(isAlive(child)).toBe(false);
    expect(existsSync(join(paths.home, 'cleaned-up'))).toBe(false);
  });

  it('refuses no connection while its gateway is killed and started again', async () => {
    const { started } = supervisor();
    const { url } = await started.start();
    let gateway = Number(await ask(url));
    for (let round = 0; round < 3; round += 1) {
      const killed = identify(gateway)!;
      process.kill(gateway, 'SIGKILL');
      while (isAlive(killed)) await new Promise((resolve) => setImmediate(resolve));
      // Nobody accepts now: these wait in the socket's backlog for the next gateway.
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(url)));
      gateway = Number(answers[0]);
      expect(new Set(answers)).toEqual(new Set([String(gateway)]));
      expect(gateway).not.toBe(killed.pid);
    }
  });

  it('lives on while all of its processes wait for their next start: killed twice in a row, nothing else would keep it', async () => {
    const home = temporaryFolder(onTestFinished);
    const paths = homePaths(home);
    const script = `
      import { Supervisor } from './cli/supervisor/supervisor.ts';
      const surroundings = { env: process.env, report: () => {}, programs: ${JSON.stringify(PROGRAMS)}, logLevel: 'silent' };
      const supervisor = new Supervisor({ home: ${JSON.stringify(home)}, host: '127.0.0.1', port: 0, driver: 'process' }, surroundings);
      process.once('SIGTERM', () => supervisor.stop().then(() => process.exit(0)));
      await supervisor.start();
    `;
    const lone = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      cwd: root,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, FN_LOG_LEVEL: 'silent' },
    });
    const ended = once(lone, 'exit');
    onTestFinished(async () => {
      lone.kill('SIGTERM');
      await ended;
    });
    const running = (not: readonly number[]) =>
      waitFor(
        'both processes',
        () => {
          const state = readState(paths);
          if (state?.phase !== 'ready') return false;
          const { controller, gateway } = state.children;
          const pids = [controller?.pid, gateway?.pid].filter((pid) => pid !== undefined && pid !== null && !not.includes(pid));
          return pids.length === 2 && (pids as number[]);
        },
        { timeoutMs: 30_000 },
      );
    const seen: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      const pids = await running(seen);
      seen.push(...pids);
      if (round < 2) for (const pid of pids) process.kill(pid, 'SIGKILL');
    }
    expect(lone.exitCode).toBeNull();
  });

  it('ends where it could not start and what is left cannot be removed: nothing is held, and the next start may have it', async () => {
    const home = temporaryFolder(onTestFinished);
    const script = `
      import { Supervisor } from './cli/supervisor/supervisor.ts';
      const surroundings = { env: process.env, report: () => {}, programs: ${JSON.stringify(PROGRAMS)}, logLevel: 'silent' };
      const supervisor = new Supervisor({ home: ${JSON.stringify(home)}, host: '127.0.0.1', port: 0, driver: 'process' }, surroundings);
      await supervisor.start().catch((error) => console.log(error.message));
    `;
    const lone = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, FN_LOG_LEVEL: 'silent', STUB_CONTROLLER: 'fails-and-cannot-clean-up' },
    });
    onTestFinished(() => void lone.kill('SIGKILL'));
    let said = '';
    lone.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    expect(await once(lone, 'exit')).toEqual([0, null]);
    expect(said).toContain('the controller did not start');
    expect(existsSync(join(home, 'cleaned-up'))).toBe(true);
    const { started } = supervisor({ home });
    await started.start();
  });

  it('goes on where its state cannot be written, and writes it when it can', async () => {
    const { started, paths } = supervisor();
    const { url, children } = await started.start();
    // What is in the way of the file that takes its place, as a full disk would be.
    const inTheWay = `${paths.supervisorFile}.${process.pid}`;
    mkdirSync(inTheWay);
    process.kill(children.gateway!.pid, 'SIGKILL');
    while (isAlive(children.gateway!)) await new Promise((resolve) => setImmediate(resolve));
    const gateway = Number(await ask(url));
    expect(gateway).not.toBe(children.gateway!.pid);
    expect(readState(paths)?.children.gateway?.pid).toBe(children.gateway!.pid);
    rmdirSync(inTheWay);
    await waitFor('the state to be written', () => readState(paths)?.children.gateway?.pid === gateway);
  });

  it('holds a socket for TLS, too, and hands it to each gateway', async () => {
    const { started, events, paths } = supervisor({ tls: { host: '127.0.0.1', port: 0, certificates: '/certificates' } });
    const { tlsUrl = '', children } = await started.start();
    expect(tlsUrl).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
    expect(events.at(-1)).toMatchObject({ type: 'ready', tlsUrl });
    expect(readState(paths)?.tlsUrl).toBe(tlsUrl);
    // The stand-in for a gateway speaks no TLS.
    const plain = tlsUrl.replace('https', 'http');
    expect(await ask(plain)).toBe(String(children.gateway?.pid));
    process.kill(children.gateway!.pid, 'SIGKILL');
    while (isAlive(children.gateway!)) await new Promise((resolve) => setImmediate(resolve));
    expect(await ask(plain)).not.toBe(String(children.gateway?.pid));
  });

  it('starts a controller that was killed again, and cleans up where it cannot be asked', async () => {
    const { started, paths } = supervisor();
    const { children } = await started.start();
    process.kill(children.controller!.pid, 'SIGKILL');
    while (readState(paths)?.children.controller?.pid === children.controller!.pid) await new Promise((resolve) => setImmediate(resolve));
    process.kill(readState(paths)!.children.controller!.pid, 'SIGKILL');
    await started.stop();
    expect(existsSync(join(paths.home, 'cleaned-up'))).toBe(true);
    expect(existsSync(paths.runDir)).toBe(false);
  });

  it('says why a process does not start, and ends the other one', async () => {
    const { started, paths } = supervisor({ env: { STUB_CONTROLLER: 'fails' } });
    await expect(started.start()).rejects.toMatchObject({
      message: 'the controller did not start: exit code 1',
      details: ['the store cannot be opened'],
    });
    expect(existsSync(paths.runDir)).toBe(false);
    expect(readState(paths)).toBeNull();
    // What the first one said is not told again of a second one.
    await expect(supervisor({ home: paths.home, env: { STUB_CONTROLLER: 'fails' } }).started.start()).rejects.toMatchObject({
      details: ['the store cannot be opened'],
    });
  });

  it('of a process that could not even write its log says that, since the log cannot', async () => {
    const { started, paths } = supervisor({ env: { STUB_CONTROLLER: 'fails' } });
    mkdirSync(paths.logs, { recursive: true });
    // Where each write fails as on a disk that is full.
    symlinkSync('/dev/full', join(paths.logs, 'controller.log'));
    await expect(started.start()).rejects.toMatchObject({
      message: 'the controller did not start: exit code 1',
      details: [expect.stringMatching(/^its log cannot be written: ENOSPC/)],
      hint: `Make room on the disk of ${paths.logs}, then start it again.`,
    });
  });

  it('does not start a second time in the same home', async () => {
    const { started, paths } = supervisor();
    await started.start();
    await expect(supervisor({ home: paths.home }).started.start()).rejects.toThrow(/another fn is starting or running/);
    expect(readState(paths)?.phase).toBe('ready');
  });

  it('on a port that is taken starts nothing', async () => {
    const blocker = createServer();
    await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void blocker.close());
    const address = blocker.address();
    const { started, paths } = supervisor({ port: typeof address === 'object' && address !== null ? address.port : 0 });
    await expect(started.start()).rejects.toThrow(/is taken/);
    expect(existsSync(join(paths.logs, 'controller.log'))).toBe(false);
    expect(existsSync(paths.runDir)).toBe(false);
  });

  it('takes over from one that was killed', async () => {
    const first = supervisor();
    const state = await first.started.start();
    // As kill -9 leaves it: a file that names a supervisor that is no more, whose children live.
    const home = temporaryFolder(onTestFinished);
    const second = supervisor({ home });
    writeState(second.paths, { ...state, pid: 2 ** 22 + 1, children: { gateway: state.children.gateway! } });
    const taken = await second.started.start();
    expect(taken.children.gateway?.pid).not.toBe(state.children.gateway?.pid);
    expect(readFileSync(second.paths.supervisorFile, 'utf8')).toContain(String(taken.children.gateway?.pid));
  });
});
