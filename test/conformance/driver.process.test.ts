import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { createProcessDriver } from '../../controller/driver/process/driver.ts';
import { findLeaks } from '../helpers/leaks.ts';
import { ROOT } from '../helpers/root.ts';
import { call } from './driver.instance.ts';
import { Bench, type DriverHarness, driverSuite } from './driver.suite.ts';

const SHIMS = join(ROOT, 'runtime-images/node');

const harness = (name: string, shims: string): DriverHarness => ({
  name,
  make: (paths) => createProcessDriver({ paths, shims: { node: join(shims, 'shim.mjs') }, version: 'test', log: silentLog }),
  killOutside: async ({ pid }) => {
    if (pid === undefined) throw new Error('the instance has no process');
    process.kill(pid, 'SIGKILL');
    await Promise.resolve();
  },
  leftovers: findLeaks,
});

driverSuite(harness('process', SHIMS));

// As under /root: only the owner can pass (mkdtemp makes it 0700).
const installation = mkdtempSync(join(tmpdir(), 'fn-private-'));
cpSync(SHIMS, installation, { recursive: true });
afterAll(() => rmSync(installation, { recursive: true, force: true }));
const hidden = harness('process, installed where only its owner can pass', installation);
driverSuite(hidden);

it('gives a function a temporary folder of its own that it can write', async () => {
  const bench = new Bench(harness('', SHIMS));
  await bench.driver.start();
  try {
    const instance = await bench.run();
    expect(await call(instance, '/keep?text=mine')).toEqual({ status: 200, body: 'mine' });
  } finally {
    await bench.dispose();
  }
});

it('runs no function as root, wherever it is installed', async () => {
  for (const shims of [SHIMS, installation]) {
    const bench = new Bench(harness('', shims));
    await bench.driver.start();
    try {
      const { instance } = await bench.boot();
      const uid = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${instance.pid}/status`, 'utf8'))?.[1];
      expect(Number(uid)).toBe(process.getuid?.() === 0 ? 65_532 : process.getuid?.());
    } finally {
      await bench.driver.destroyAll();
      rmSync(bench.root, { recursive: true, force: true });
    }
  }
});
