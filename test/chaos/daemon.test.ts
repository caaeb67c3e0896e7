/**
 * The Docker engine goes away under load and comes back: an engine of the test's own, since others use the machine's. With
 * live-restore instances go on; without it they are gone, and what takes their place is there soon. Nothing hangs meanwhile, and
 * afterwards the engine has the containers that the platform knows of, and no more.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Dockerd } from '../helpers/dockerd.ts';
import { judge, Load, misdirected, unexplained } from '../helpers/load.ts';
import { startPlatform, type TestPlatform } from '../helpers/platform.ts';
import { nodeImage } from '../helpers/runtime-images.ts';
import { onlyOn } from '../helpers/suite.ts';
import { parallel, range, sleep, waitFor } from '../helpers/wait.ts';
import { reportFault, rowOf } from './report.ts';
import { SCALE } from './scale.ts';

const LEDGER = 'test/chaos/fixtures/ledger.ts';
/** So often at most a function is called while there is no engine: by then the pool is empty. */
const MOST_ASKED = 20;
/** Of requests that wait for an instance. */
const QUEUE_MS = 4_000;
/** So long would a client wait that nobody answers: its request hung then, where its wait for an instance should have ended. */
const PATIENCE_MS = 60_000;
/** Longest wait for starts to work again, from the engine's return on. Kills and starts that failed are tried again after 10 s. */
const RECOVERY_MS = 60_000;

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
  }, 240_000);

  afterAll(async () => {
    const left = await platform?.dispose();
    await dockerd?.dispose();
    expect(left ?? []).toEqual([]);
  }, 240_000);

  const ids = async () => new Set((await platform.status()).instances.map(({ id }) => id));

  /** From the engine's return until an instance is there that was not: each call takes one out of the pool, and ends it, ms. */
  async function startsAgain(known: ReadonlySet<string>): Promise<number> {
    const from = performance.now();
    await waitFor(
      'a new instance',
      async () => {
        await platform.call('/cold/last?id=cold', { timeoutMs: PATIENCE_MS });
        const { instances } = await platform.status();
        return instances.some(({ id, state }) => !known.has(id) && state !== 'starting' && state !== 'draining');
      },
      { timeoutMs: RECOVERY_MS },
    );
    return Math.round(performance.now() - from);
  }

  /** The engine has what the platform knows of, and nothing else: by name, since others come and go meanwhile. */
  async function settled(): Promise<void> {
    let strange: string[] = [];
    await waitFor(
      'containers and instances to agree',
      async () => {
        const before = new Set((await platform.status()).instances.map(({ id }) => id));
        const names = (await dockerd.docker('ps', '--all', '--format', '{{.Names}}')).split('\n').filter((name) => name !== '');
        const { instances } = await platform.status();
        const known = new Set([...before, ...instances.map(({ id }) => id)]);
        const there = new Set(names.map((name) => name.slice(`fn-${platform.homeId}-`.length)));
        const bare = instances.filter(({ id, state }) => before.has(id) && state !== 'starting' && state !== 'draining' && !there.has(id));
        strange = [...[...there].filter((id) => !known.has(id)), ...bare.map(({ id, state }) => `${id} ${state}, without a container`)];
        return strange.length === 0 && there.size > 0;
      },
      { timeoutMs: RECOVERY_MS, everyMs: 300 },
    ).catch((error: unknown) => {
      throw new Error(`containers without instances, or the other way round: ${strange.join(', ')}`, { cause: error });
    });
  }

  it.each(SCALE.full ? ROUNDS : ROUNDS.filter(({ signal }) => signal === 'SIGKILL'))(
    '$signal, live-restore $liveRestore: nothing hangs, and all is well when it is back',
    async ({ signal, liveRestore }) => {
      expect((await platform.call('/steady?id=before')).status).toBe(200);
      // One that is ended in order ends its containers by what it was started with.
      if (signal === 'SIGTERM' && !liveRestore) {
        await dockerd.end('SIGKILL');
        await dockerd.start({ liveRestore });
      }
      await waitFor('it to serve', async () => (await platform.call('/steady?id=before')).status === 200, { timeoutMs: RECOVERY_MS });
      await platform.scaledToZero('cold');
      const load = new Load({ url: (id) => `${platform.url}/steady?id=${id}`, connections: 4, pauseMs: 10 });
      await load.during(SCALE.calmMs);
      const faultAt = performance.now();
      await dockerd.end(signal);
      // What is in the pool is there for functions also now; when it is empty nothing can be started.
      const ask = (at: number) => platform.call(`/cold/last?id=meanwhile-${at}`, { timeoutMs: PATIENCE_MS });
      const meanwhile = await parallel(range(6), 2, ask);
      while (!meanwhile.some(({ status }) => status === 503) && meanwhile.length < MOST_ASKED) meanwhile.push(await ask(meanwhile.length));
      const { instances } = await waitFor('it to be said that there is no engine', async () => {
        const status = await platform.status();
        return status.features.notes.join().includes('the driver docker does not answer') && status;
      });
      await sleep(Math.max(0, SCALE.awayMs - (performance.now() - faultAt)));
      const known = await ids();
      await dockerd.start({ liveRestore });
      const startMs = await startsAgain(known);
      await settled();
      await waitFor('it to serve again', async () => (await platform.call('/steady?id=after')).status === 200);
      const blow = { from: faultAt, to: performance.now() };
      await load.during(SCALE.calmMs);
      await load.tail(51, faultAt);
      const serving = (await platform.instances('steady')).filter(({ state }) => state === 'idle' || state === 'busy');
      const entries = await load.stop();
      const verdict = judge(entries, { faultAt });
      const what = `Docker ${signal}, ${liveRestore ? 'live-restore' : 'no live-restore'}`;
      reportFault(rowOf({ fault: 7, what, driver, leaks: 'containers = instances', figures: { startMs } }, entries, verdict));

      const refused = meanwhile.filter(({ status }) => status !== 200);
      expect(refused.length).toBeGreaterThan(0);
      for (const answer of refused) {
        expect(`${answer.status} ${answer.json<{ code: string }>().code}`).toMatch(
          /^(?:50[23] instance-lost|502 function-crashed|503 (?:queue-timeout|start-failed|no-capacity))$/,
        );
        if (answer.status === 503) expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      }
      expect(refused.some(({ status }) => status === 503)).toBe(true);
      expect(instances.length).toBeGreaterThan(0);
      expect(misdirected(entries)).toEqual([]);
      expect(verdict.goodTail).toBeGreaterThan(50);
      expect(verdict.ok).toBeGreaterThan(100);
      if (liveRestore) expect(verdict.failed).toEqual({});
      else {
        expect(serving.length).toBeGreaterThan(0);
        expect(serving.filter(({ id }) => known.has(id))).toEqual([]);
        for (const failure of Object.keys(verdict.failed)) expect(failure).toMatch(/^50[23] /);
        // Nothing fails any more when containers and instances agree and one has answered.
        expect(unexplained(entries, [blow])).toEqual([]);
      }
      expect(readFileSync(join(platform.home, 'logs', 'controller.log'), 'utf8')).toMatch(
        /the Docker engine (?:cannot be followed|ended its events)/,
      );
    },
    SCALE.timeoutMs,
  );
});
