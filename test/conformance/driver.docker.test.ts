import { execFileSync } from 'node:child_process';
import { silentLog } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import { createDockerDriver } from '../../controller/driver/docker/driver.ts';
import { findLeaks } from '../helpers/leaks.ts';
import { runtimeImages } from './driver.image.ts';
import { driverSuite } from './driver.suite.ts';

const images = await runtimeImages();

driverSuite({
  name: 'docker',
  make: (paths: HomePaths) =>
    createDockerDriver({
      paths,
      images,
      version: 'test',
      memoryBudgetMib: 2_048,
      cpuBudget: 64,
      egressPolicy: 'require-filter',
      log: silentLog,
    }),
  killOutside: async ({ handle }) => {
    execFileSync('docker', ['kill', handle], { stdio: 'ignore' });
    await Promise.resolve();
  },
  leftovers: findLeaks,
});
