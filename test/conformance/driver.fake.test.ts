import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '#kit/clock.ts';
import type { HomePaths } from '#kit/paths.ts';
import { createFakeDriver } from '../../controller/driver/fake/driver.ts';
import { FakeHost, type FakeHandler } from '../../controller/driver/fake/host.ts';
import { driverSuite } from './driver.suite.ts';

/** What the function of driver.instance.ts does, as far as a driver can see it. */
const handler: FakeHandler = ({ url }, { spec: { id }, used }, host) => {
  const { pathname, searchParams } = new URL(url, 'http://fake');
  if (pathname === '/exit') host.end(id, 'exit', `exit code ${searchParams.get('code')}`);
  if (pathname === '/heap') host.end(id, 'oom', 'the JavaScript heap was full');
  if (pathname === '/log') host.write(id, 'stdout', `${searchParams.get('text')}\n`);
  if (pathname === '/burn') {
    used.cpuUs += Number(searchParams.get('us'));
    return { status: 200, body: searchParams.get('us') ?? '' };
  }
  return { status: 200, body: 'hello' };
};

const hosts = new Map<string, FakeHost>();
function hostOf(paths: HomePaths): FakeHost {
  const host =
    hosts.get(paths.homeId) ??
    new FakeHost({
      clock: systemClock,
      latencyMs: { create: 100, kill: 5 },
      socketOf: (id) => join(paths.instances, id, 'sock', 's'),
      handler,
    });
  hosts.set(paths.homeId, host);
  return host;
}

driverSuite({
  name: 'fake',
  make: (paths) => createFakeDriver({ host: hostOf(paths), paths }),
  killOutside: async ({ id }) => {
    for (const host of hosts.values()) host.end(id, 'exit', 'signal SIGKILL');
    await Promise.resolve();
  },
  leftovers: async (paths) => Promise.resolve([...hostOf(paths).instances.keys(), ...(existsSync(paths.runDir) ? [paths.runDir] : [])]),
});
