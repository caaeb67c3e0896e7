import { join } from 'node:path';
import { silentLog } from '#kit/log.ts';
import { createProcessDriver } from '../../controller/driver/process/driver.ts';
import { findLeaks } from '../helpers/leaks.ts';
import { ROOT } from '../helpers/root.ts';
import { driverSuite } from './driver.suite.ts';

driverSuite({
  name: 'process',
  make: (paths) =>
    createProcessDriver({ paths, shims: { node: join(ROOT, 'runtime-images/node/shim.mjs') }, version: 'test', log: silentLog }),
  killOutside: async ({ pid }) => {
    if (pid === undefined) throw new Error('the instance has no process');
    process.kill(pid, 'SIGKILL');
    await Promise.resolve();
  },
  leftovers: findLeaks,
});
