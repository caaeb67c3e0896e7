/** `fn host-setup`, and what the docker driver of another user makes of it. */
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { homePaths, type HomePaths } from '#kit/paths.ts';
import { findLeaks } from '../helpers/leaks.ts';
import { ROOT } from '../helpers/root.ts';
import { runtimeImages } from './driver.image.ts';
import { nothingLeft } from './driver.suite.ts';

const images = await runtimeImages();
/** A user that is in nobody's group but Docker's. */
const UID = 64_901;

const Report = z.object({
  uid: z.number(),
  features: z.object({
    freeze: z.boolean(),
    limits: z.boolean(),
    parentCgroup: z.boolean(),
    egress: z.string(),
    notes: z.array(z.string()),
  }),
  memory: z.string(),
  internet: z.string(),
  list: z.string(),
});

/** Starts a driver, runs an instance with egress if it may, and tells what it found. Run as UID. */
const PROGRAM = `
import { homePaths } from '#kit/paths.ts';
import { silentLog } from '#kit/log.ts';
import { createDockerDriver } from './controller/driver/docker/driver.ts';
const [home, images, bundleDir] = process.argv.slice(1);
const driver = createDockerDriver({ paths: homePaths(home), images: JSON.parse(images), version: 'test', memoryBudgetMib: 512, cpuBudget: 64, egressPolicy: 'require-filter', log: silentLog });
const said = (promise) => promise.then(() => 'done', (error) => error.message);
await driver.start();
const spec = { id: 'i-abcdefghijkl', runtime: 'node', memoryClassMib: 128, nonce: 'n', image: null, sandbox: null };
const specialise = (egress) => said(driver.specialise(spec.id, { bundleDir, memoryMib: 96, cpu: 0.5, egress }));
await driver.create({ ...spec, network: 'none' }, new AbortController().signal);
const memory = await specialise('none');
await driver.kill(spec.id);
const created = await said(driver.create({ ...spec, id: 'i-000000000000', network: 'egress' }, new AbortController().signal));
spec.id = 'i-000000000000';
const internet = created === 'done' ? await specialise('internet') : created;
const list = created === 'done' ? await specialise(['10.0.0.0/8']) : created;
await driver.destroyAll();
console.log(JSON.stringify({ uid: process.getuid(), features: driver.features, memory, internet, list }));
`;

describe('host-setup', () => {
  let root: string;
  let paths: HomePaths;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'fns-'));
    chmodSync(root, 0o755);
    paths = homePaths(join(root, 'home'), UID);
    chownSync(paths.home, UID, UID);
  });
  afterEach(async () => {
    await execa(process.execPath, ['controller/host-setup-main.ts', '--home', paths.home, '--undo'], { cwd: ROOT });
    await nothingLeft(findLeaks, paths);
    rmSync(root, { recursive: true, force: true });
  });

  const asUser = async () => {
    const docker = statSync('/var/run/docker.sock').gid;
    const program = ['--input-type=module-typescript', '-e', PROGRAM, paths.home, JSON.stringify(images), join(ROOT, 'test/helpers')];
    const { stdout } = await execa(
      'setpriv',
      ['--reuid', String(UID), '--regid', String(UID), '--groups', String(docker), process.execPath, ...program],
      {
        cwd: ROOT,
        env: { HOME: root },
      },
    );
    return Report.parse(JSON.parse(stdout));
  };

  it('without it, a user without root gets no egress, and is told why', async () => {
    const report = await asUser();
    expect(report).toMatchObject({
      uid: UID,
      features: { freeze: false, limits: true, parentCgroup: false, egress: 'none' },
      memory: 'done',
    });
    expect(report.features.notes.join('\n')).toMatch(/host-setup/);
    expect(report.internet).toMatch(/cannot dial out/);
  });

  it('with it, egress is filtered, the parent holds the budget, and lists are refused', async () => {
    const { stdout } = await execa(process.execPath, ['controller/host-setup-main.ts', '--home', paths.home, '--json'], { cwd: ROOT });
    expect(JSON.parse(stdout)).toMatchObject({ homeId: paths.homeId, uid: UID, steps: [{ ok: true }, { ok: true }, { ok: true }] });
    const report = await asUser();
    expect(report).toMatchObject({
      features: { freeze: false, limits: true, parentCgroup: true, egress: 'filtered' },
      memory: 'done',
      internet: 'done',
    });
    expect(report.list).toMatch(/needs a controller that runs as root/);
    // It was the user's driver that set the budget.
    const limits = ['/sys/fs/cgroup/memory/NAME/memory.limit_in_bytes', '/sys/fs/cgroup/NAME/memory.max'].flatMap((file) => {
      const path = file.replace('NAME', `fn-${paths.homeId}`);
      return statSync(path, { throwIfNoEntry: false }) ? [readFileSync(path, 'utf8').trim()] : [];
    });
    expect(limits).toContain(String((512 + 64) * 1024 * 1024));
  });
});
