/**
 * The Docker engine goes away under load and comes back: an engine of the test's own, since others use the machine's. With
 * live-restore instances go on; without it they are gone, and what takes their place is there soon. Nothing hangs meanwhile, and
 * afterwards the engine has the containers that the platform knows of, and no more.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Dockerd } from '../helpers/dockerd.ts';
import { containersOf } from '../helpers/leaks.ts';
import { judge, Load, misdirected } from '../helpers/load.ts';
import { startPlatform, type TestPlatform } from '../helpers/platform.ts';
import { nodeImage } from '../helpers/runtime-images.ts';
import { onlyOn } from '../helpers/suite.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { reportFault, rowOf } from './report.ts';
import { SCALE } from './scale.ts';

const LEDGER = 'test/chaos/fixtures/ledger.ts';
/** Of requests that wait for an instance. */
const QUEUE_MS = 4_000;
/** A request that waits in vain is answered within: its wait, and what a busy machine adds. */
const ANSWER_MS = QUEUE_MS + 6_000;
/** Starts work again within, from the engine's return on. Kills and starts that failed are tried again after 10 s at most. */
const RECOVERY_MS = 30_000;

interface Round {
  signal: 'SIGKILL' | 'SIGTERM';
  /** Of the engine that comes back, and, where it is ended in order, of the one before. */
  liveRestore: boolean;
}

const ROUNDS: Round[] = [
  { signal: 'SIGKILL', liveRestore: true },
  { signal: 'SIGTERM', liveRestore: true },
  { signal: 'SIGKILL', liveRestore: false },
  { signal: 'SIGTERM', liveRestore: false },
];

describe.each(onlyOn('docker'))('the engine of %s goes away', (driver) => {
  let dockerd: Dockerd;
  let platform: TestPlatform;

  beforeAll(async () => {
    dockerd = new Dockerd();
    await dockerd.start({ liveRestore: true });
    await dockerd.take(await nodeImage());
    platform = await startPlatform({ driver: 'docker', env: { DOCKER_HOST: dockerd.host, FN_QUEUE_TIMEOUT_MS: String(QUEUE_MS) } });
    await platform.deploy('steady', LEDGER, { flags: ['--keep-alive', '600', '--timeout', '20'] });
    // Of a size that no pool has: each start is a container.
    await platform.deploy('cold', LEDGER, { flags: ['--keep-alive', '1', '--memory', '1500'] });
    await platform.scaledToZero('cold');
  }, 120_000);

  afterAll(async () => {
    const left = await platform?.dispose();
    await dockerd?.dispose();
    expect(left ?? []).toEqual([]);
  }, 120_000);

  const cold = () => platform.call('/cold?id=cold', { timeoutMs: ANSWER_MS });

  /** As soon as the engine is back: when a container can be started again, ms. */
  async function startsAgain(): Promise<number> {
    const from = performance.now();
    await waitFor('a cold start', async () => (await cold()).status === 200, { timeoutMs: RECOVERY_MS });
    return Math.round(performance.now() - from);
  }

  /** The engine has what the platform knows of, and nothing else. */
  const settled = () =>
    waitFor(
      'containers and instances to agree',
      async () => {
        const containers = await containersOf(platform);
        const known = (await platform.status()).instances.filter(({ state }) => state !== 'starting');
        return known.length > 0 && containers.length === known.length;
      },
      { timeoutMs: RECOVERY_MS, everyMs: 300 },
    );

  it.each(SCALE.full ? ROUNDS : [ROUNDS[0]!, ROUNDS[3]!])(
    '$signal, live-restore $liveRestore: nothing hangs, and all is well when it is back',
    async ({ signal, liveRestore }) => {
      expect((await platform.call('/steady?id=before')).status).toBe(200);
      // One that is ended in order ends its containers by what it was started with.
      if (signal === 'SIGTERM' && !liveRestore) {
        await dockerd.end('SIGKILL');
        await dockerd.start({ liveRestore });
        await startsAgain();
      }
      await waitFor('it to serve', async () => (await platform.call('/steady?id=before')).status === 200, { timeoutMs: RECOVERY_MS });
      await platform.scaledToZero('cold');
      const load = new Load({ url: (id) => `${platform.url}/steady?id=${id}`, connections: 4, pauseMs: 10 });
      await load.during(SCALE.calmMs);
      const faultAt = performance.now();
      await dockerd.end(signal);
      const refused = await cold();
      const { instances } = await platform.status();
      await sleep(Math.max(0, SCALE.awayMs - (performance.now() - faultAt)));
      await dockerd.start({ liveRestore });
      const startMs = await startsAgain();
      await settled();
      await load.during(SCALE.calmMs);
      const entries = await load.stop();
      const verdict = judge(entries, { faultAt });
      const what = `Docker ${signal}, ${liveRestore ? 'live-restore' : 'no live-restore'}`;
      reportFault(rowOf({ fault: 7, what, driver, leaks: 'containers = instances', figures: { startMs } }, entries, verdict));

      expect([refused.status, refused.json<{ code: string }>().code]).toEqual([
        503,
        expect.stringMatching(/^(?:queue-timeout|start-failed|no-capacity)$/),
      ]);
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
      expect(instances.length).toBeGreaterThan(0);
      expect(misdirected(entries)).toEqual([]);
      expect(verdict.goodTail).toBeGreaterThan(50);
      expect(verdict.ok).toBeGreaterThan(100);
      if (liveRestore) expect(verdict.failed).toEqual({});
      else {
        for (const failure of Object.keys(verdict.failed)) expect(failure).toMatch(/^50[23] /);
        expect(verdict.recoveryMs).toBeLessThan(SCALE.awayMs + RECOVERY_MS);
      }
      expect(readFileSync(join(platform.home, 'logs', 'controller.log'), 'utf8')).toMatch(
        /the Docker engine (?:cannot be followed|ended its events)/,
      );
    },
    SCALE.timeoutMs,
  );
});
