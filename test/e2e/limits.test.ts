/** Limits are the kernel's, not promises: memory, CPU, processes, /tmp. Plain processes have none. */
import { describe, expect, it } from 'vitest';
import { drivers, onlyOn, usePlatform } from '../helpers/suite.ts';
import { range, sleep, waitFor } from '../helpers/wait.ts';

const PROBE = 'test/e2e/fixtures/probe.ts';

const FORKER = `
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync, openSync } from 'node:fs';
const exe = process.execPath;
export default async (request: Request) => {
  const { pathname } = new URL(request.url);
  if (pathname === '/fork') {
    let started = 0, failed = 0;
    const children = [];
    for (let i = 0; i < 600 && failed < 5; i++) {
      const child = spawn(exe, ['-e', 'setTimeout(() => {}, 3000)'], { stdio: 'ignore' });
      const ok = await new Promise((resolve) => { child.once('spawn', () => resolve(true)); child.once('error', () => resolve(false)); });
      if (ok) { started++; children.push(child); } else failed++;
    }
    for (const child of children) child.kill('SIGKILL');
    return Response.json({ started, failed });
  }
  if (pathname === '/tmp') {
    let mib = 0;
    try { for (; mib < 4096; mib++) writeFileSync('/tmp/fill', Buffer.alloc(1024 * 1024, 1), { flag: 'a' }); }
    catch (error) { return Response.json({ mib, code: (error as { code: string }).code }); }
    return Response.json({ mib, code: 'none' });
  }
  if (pathname === '/fds') {
    let open = 0;
    try { for (; open < 1_000_000; open++) openSync('/dev/null', 'r'); }
    catch (error) { return Response.json({ open, code: (error as { code: string }).code }); }
  }
  if (pathname === '/cpu') {
    const before = process.cpuUsage(), started = performance.now();
    const used = () => { const { user, system } = process.cpuUsage(before); return (user + system) / 1000; };
    while (used() < 500);
    return Response.json({ share: used() / (performance.now() - started) });
  }
  return new Response('ok');
};
`;

describe.each(drivers('docker'))('limits (%s)', (driver) => {
  const platform = usePlatform({ driver });

  it('512 MiB hold 400 MiB of live heap', async () => {
    await platform().deploy('big-heap', PROBE, { flags: ['--memory', '512', '--timeout', '60'] });
    const answer = await platform().call('/big-heap/heap?mib=400');
    expect(answer.text).toContain('used');
    expect(answer.json<{ used: number }>().used).toBeGreaterThanOrEqual(400);
    await platform().fnOk(['delete', 'big-heap']);
  });

  it('a function that lives in 64 MiB lives here, and is really held to them', async () => {
    await platform().deploy('small', PROBE, { flags: ['--memory', '64', '--timeout', '30'] });
    for (const _ of range(200)) expect((await platform().call('/small', { method: 'POST', body: 'x'.repeat(2_000) })).status).toBe(200);
    const over = await platform().call('/small/oom');
    expect([over.status, over.json<{ code: string }>().code]).toEqual([502, 'function-oom']);
    expect((await platform().call('/small')).status).toBe(200);
  });

  it.each([
    ['buffers', '/greedy/oom'],
    ['the heap', '/greedy/heap?mib=100000'],
  ])('overeating with %s: 502 function-oom, the neighbour is unharmed, the next call works', async (_, path) => {
    await platform().deploy('greedy', PROBE, { flags: ['--memory', '128', '--timeout', '60'] });
    await platform().deploy('neighbour', PROBE, { flags: ['--memory', '128', '--timeout', '60'] });
    await platform().call('/neighbour');
    const neighbour = platform().call('/neighbour/sleep?ms=4000');
    const over = await platform().call(path);
    expect(over.status).toBe(502);
    expect(over.json()).toMatchObject({ code: 'function-oom' });
    expect((await neighbour).status).toBe(200);
    expect((await platform().call('/greedy')).status).toBe(200);
  });

  it('a crash is told apart from out of memory', async () => {
    await platform().deploy('crasher', PROBE);
    for (const path of ['/crasher/exit/1', '/crasher/exit/137', '/crasher/abort']) {
      const crashed = await platform().call(path);
      expect([path, crashed.status, crashed.json<{ code: string }>().code]).toEqual([path, 502, 'function-crashed']);
      expect((await platform().call('/crasher')).status).toBe(200);
    }
  });

  it('an endless loop is 504 and killed; its slot and CPU are free again', async () => {
    await platform().deploy('loop', PROBE, { flags: ['--timeout', '5', '--max', '1'] });
    const spun = await platform().call('/loop/spin');
    expect([spun.status, spun.json<{ code: string }>().code]).toEqual([504, 'function-timeout']);
    expect((await platform().call('/loop')).status).toBe(200);
    await waitFor('the old instance to go', async () => (await platform().instances('loop')).length <= 1);
  });

  it('processes have an end, and neighbours do not notice', async () => {
    await platform().deploy('hog', FORKER, { flags: ['--memory', '256', '--timeout', '60'] });
    await platform().deploy('calm', PROBE, { flags: ['--timeout', '20'] });
    const hog = platform().call('/hog/fork', { timeoutMs: 70_000 });
    await sleep(500);
    for (const _ of range(20)) expect((await platform().call('/calm')).status).toBe(200);
    const forked = await hog;
    // Either it was told no, or it ate its own memory; never anyone else's.
    if (forked.status === 200) expect(forked.json<{ started: number }>().started).toBeLessThan(500);
    else expect(forked.json<{ code: string }>().code).toMatch(/^function-(?:oom|crashed|timeout)$/);
    expect((await platform().call('/calm')).status).toBe(200);
  });
});

// A pod's CPU is its class's until Kubernetes 1.33, its open files are the container runtime's to limit, and what is too much in /tmp ends the pod.
describe.each(onlyOn('docker'))('limits (%s only)', (driver) => {
  const platform = usePlatform({ driver });

  it('CPU is held to its quota', async () => {
    await platform().deploy('cpu', FORKER, { flags: ['--cpu', '0.25', '--timeout', '60'] });
    // Half a second of it, however long that takes: a machine that is slow, or stands still, makes its share less, and none more.
    const answer = await platform().call('/cpu/cpu');
    expect(answer.status).toBe(200);
    expect(answer.json<{ share: number }>().share).toBeLessThan(0.4);
  });

  it('open files and /tmp have an end', async () => {
    await platform().deploy('files', FORKER, { flags: ['--memory', '128'] });
    const tmp = (await platform().call('/files/tmp')).json<{ mib: number; code: string }>();
    expect(tmp.code).toBe('ENOSPC');
    expect(tmp.mib).toBeGreaterThanOrEqual(32);
    expect(tmp.mib).toBeLessThanOrEqual(64);
    const fds = (await platform().call('/files/fds')).json<{ open: number; code: string }>();
    expect(fds.code).toBe('EMFILE');
    expect(fds.open).toBeLessThan(1_100);
  });
});
