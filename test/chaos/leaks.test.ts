/** Hundreds of instances come and go; what they took must come back: containers, sockets, fds, folders. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { containersOf } from '../helpers/leaks.ts';
import { type TestPlatform } from '../helpers/platform.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { parallel, range, sleep, waitFor } from '../helpers/wait.ts';
import { settledPssMib } from '../helpers/process-memory.ts';
import { reportFault } from './report.ts';
import { SCALE } from './scale.ts';

/** What a life may leave in the memory of a gateway and of a controller, MiB, beside what a process takes once. */
const MEMORY_MIB = { once: 48, each: 0.02 };

const count = (folder: string) => (existsSync(folder) ? readdirSync(folder).length : 0);

/** What is there now, but for memory, which is looked at for some seconds. */
async function census(platform: TestPlatform) {
  const status = await platform.status();
  return {
    instances: status.instances.length,
    containers: platform.driver === 'docker' ? (await containersOf(platform)).length : status.instances.length,
    folders: count(join(platform.runDir, 'instances')),
    records: count(join(platform.runDir, 'records')),
    gatewayFds: count(`/proc/${status.gateway.pid}/fd`),
    controllerFds: count(`/proc/${status.controller.pid}/fd`),
  };
}

/** Whether there is as much of everything as there are instances. */
const settledDown = ({ instances, containers, folders, records }: Awaited<ReturnType<typeof census>>) =>
  containers === instances && folders <= instances && records <= instances;

type Open = Pick<Awaited<ReturnType<typeof census>>, 'gatewayFds' | 'controllerFds'>;

/** A few more files for connections that come and go; two hundred lives would show. */
const fewMore = (before: Open, after: Open) => after.gatewayFds - before.gatewayFds < 15 && after.controllerFds - before.controllerFds < 25;

/** The least of some seconds, of gateway and controller: a heap that is about to be collected is no leak. */
async function memory(platform: TestPlatform) {
  const { gateway, controller } = await platform.status();
  const [gatewayMib, controllerMib] = await Promise.all([gateway.pid ?? 0, controller.pid].map((pid) => settledPssMib(pid)));
  return { gatewayMib: gatewayMib!, controllerMib: controllerMib! };
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
              return (await platform().instances('mayfly')).length === 0 && settledDown(now) && now;
            },
            { timeoutMs: 60_000 },
          );
        const round = async () => {
          await platform().pooled();
          const before = { ...(await quiet()), ...(await memory(platform())) };
          const { good, bad } = await live(SCALE.lifecycles);
          await platform().pooled();
          // A connection that is about to end, or a file that is being read, is no leak: what leaked stays.
          await waitFor('descriptors to be given back', async () => fewMore(before, await census(platform()))).catch(() => {
            // How many are left is told below.
          });
          return { before, good, bad, after: { ...(await quiet()), ...(await memory(platform())) } };
        };
        const mib = MEMORY_MIB.once + MEMORY_MIB.each * SCALE.lifecycles;
        let { before, good, bad, after } = await round();
        // What a process takes once it does not take with the next lives; what a life leaves, each leaves.
        if (Math.max(after.gatewayMib - before.gatewayMib, after.controllerMib - before.controllerMib) >= mib)
          ({ before, good, bad, after } = await round());
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
        expect(fewMore(before, after) ? [] : grown).toEqual([]);
        expect(after.gatewayMib - before.gatewayMib).toBeLessThan(mib);
        expect(after.controllerMib - before.controllerMib).toBeLessThan(mib);
      },
      2 * SCALE.timeoutMs,
    );
  });
}
