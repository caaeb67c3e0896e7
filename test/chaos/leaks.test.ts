/** Hundreds of instances come and go; what they took must come back: containers, sockets, fds, folders. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { containersOf } from '../helpers/leaks.ts';
import { type TestPlatform } from '../helpers/platform.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { parallel, range, sleep, waitFor } from '../helpers/wait.ts';
import { pssMib } from '../helpers/process-memory.ts';
import { reportFault } from './report.ts';
import { SCALE } from './scale.ts';

/** What a life may leave in the memory of a gateway and of a controller, MiB, beside what a process takes once. */
const MEMORY_MIB = { once: 48, each: 0.02 };

const count = (folder: string) => (existsSync(folder) ? readdirSync(folder).length : 0);

async function census(platform: TestPlatform) {
  const status = await platform.status();
  return {
    instances: status.instances.length,
    containers: platform.driver === 'docker' ? (await containersOf(platform)).length : status.instances.length,
    folders: count(join(platform.runDir, 'instances')),
    records: count(join(platform.runDir, 'records')),
    gatewayFds: count(`/proc/${status.gateway.pid}/fd`),
    controllerFds: count(`/proc/${status.controller.pid}/fd`),
    gatewayMib: pssMib(status.gateway.pid ?? 0),
    controllerMib: pssMib(status.controller.pid),
  };
}

for (const driver of drivers('docker', 'process')) {
  describe(`leaks (${driver})`, () => {
    const platform = usePlatform({ driver });

    it(
      `after ${SCALE.lifecycles} lifecycles nothing is left of them`,
      async () => {
        await platform().deploy('mayfly', 'test/chaos/fixtures/ledger.ts', {
          flags: ['--concurrency', '1', '--max', '4', '--timeout', '30', '--keep-alive', '1'],
        });
        /** Each answer is the last of its instance. A caller may meet one that is just about to end: a 502, and another try. */
        const live = async (lives: number) => {
          const bad: number[] = [];
          let good = 0;
          await parallel(range(4), 4, async (worker) => {
            for (let attempt = 0; good < lives && bad.length < lives * 2; attempt++) {
              const { status } = await platform().call(`/mayfly/last?id=${worker}-${attempt}`);
              if (status === 200) good++;
              else bad.push(status);
              await sleep(10);
            }
          });
          return { good, bad };
        };
        await live(20);
        const quiet = async () =>
          waitFor(
            'the last to be gone',
            async () => {
              await sleep(300);
              const now = await census(platform());
              return (await platform().instances('mayfly')).length === 0 && now.containers === now.instances && now;
            },
            { timeoutMs: 30_000 },
          );
        await platform().pooled();
        const before = await quiet();
        const { good, bad } = await live(SCALE.lifecycles);
        await platform().pooled();
        const after = await quiet();
        const counts: Record<string, number> = {};
        for (const status of bad) counts[status] = (counts[status] ?? 0) + 1;
        const grown = Object.entries(after).map(([what, now]) => `${what} ${Math.round(now - Reflect.get(before, what))}`);
        reportFault({
          fault: 18,
          what: `${good} lifecycles`,
          driver,
          acknowledged: good,
          failed: counts,
          lost: null,
          duplicated: null,
          unknown: 0,
          recoveredMs: null,
          leaks: after.containers === after.instances ? `fds ${after.controllerFds - before.controllerFds}` : 'containers',
          figures: { grown },
        });
        expect(bad.filter((status) => status !== 502)).toEqual([]);
        expect(good).toBeGreaterThanOrEqual(SCALE.lifecycles);
        expect(after.containers).toBe(after.instances);
        expect(after.folders).toBeLessThanOrEqual(after.instances);
        expect(after.records).toBeLessThanOrEqual(after.instances);
        // A few for connections that come and go; two hundred lives would show.
        expect(after.gatewayFds - before.gatewayFds).toBeLessThan(15);
        expect(after.controllerFds - before.controllerFds).toBeLessThan(25);
        const mib = MEMORY_MIB.once + MEMORY_MIB.each * SCALE.lifecycles;
        expect(after.gatewayMib - before.gatewayMib).toBeLessThan(mib);
        expect(after.controllerMib - before.controllerMib).toBeLessThan(mib);
      },
      SCALE.timeoutMs,
    );
  });
}
