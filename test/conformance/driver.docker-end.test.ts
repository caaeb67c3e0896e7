/** The end of a home whose network cannot be removed: it keeps nothing else from going, and once it can be removed it is. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { homePaths } from '#kit/paths.ts';
import { createDockerDriver } from '../../controller/driver/docker/driver.ts';
import { findLeaks, removeLeftovers } from '../helpers/leaks.ts';
import { RUN_FOLDER } from '../helpers/platform.ts';
import { runtimeImages } from './driver.image.ts';

const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' }).trim();

it('a network that somebody else’s container is on stays, and is told; its rules, the group above the instances and the folders go', async () => {
  const images = await runtimeImages();
  const home = mkdtempSync(join(RUN_FOLDER, 'h-'));
  const paths = homePaths(home);
  const driver = createDockerDriver({
    paths,
    images,
    version: 'test',
    memoryBudgetMib: 512,
    cpuBudget: 1,
    egressPolicy: 'require-filter',
    log: silentLog,
  });
  onTestFinished(async () => {
    await removeLeftovers(paths);
    rmSync(home, { recursive: true, force: true });
  });
  await driver.start();
  const network = `fn-${paths.homeId}`;
  const guest = docker('run', '--detach', '--network', network, '--entrypoint', 'node', images.node!, '-e', 'setInterval(() => {}, 1e6)');
  try {
    await expect(driver.destroyAll()).rejects.toThrow('has active endpoints');
    const left = (await findLeaks(paths)).filter((one) => !/^iptables rule -A (?!DOCKER-USER|FN-)/.test(one));
    expect(left).toEqual([`network ${network}`]);
  } finally {
    docker('rm', '--force', guest);
  }
  await driver.destroyAll();
  await driver.close();
  expect(await findLeaks(paths)).toEqual([]);
}, 240_000);
