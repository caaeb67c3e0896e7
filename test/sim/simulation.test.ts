/** The simulation in its short form: not what it costs, but that all are served and nothing is left over. */
import { afterEach, describe, expect, it } from 'vitest';
import { sleep } from '#kit/clock.ts';
import { waitFor } from '../helpers/wait.ts';
import { CLUSTER_LATENCIES } from './cluster.ts';
import { SimPlatform } from './platform.ts';
import { loadFor, picker, seeded, zipfShares } from './random.ts';
import { RELEASE_SECONDS, type Shape } from './shape.ts';
import { SimTraffic } from './traffic.ts';

const SHAPE: Shape = {
  functions: 300,
  instances: 90,
  coldPerSecond: 60,
  gateways: 4,
  deploysPerSecond: 3,
  revisions: 2,
  skew: 0.6,
  concurrency: 2,
  serviceMs: 30,
  warmUpSeconds: 0,
  seconds: 3,
  seed: 7,
};

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

async function start(shape: Shape): Promise<{ platform: SimPlatform; traffic: SimTraffic }> {
  const load = loadFor(zipfShares(shape.functions, shape.skew), shape.coldPerSecond, shape.instances);
  expect(load.lingerSeconds).toBeGreaterThan(RELEASE_SECONDS);
  const platform = await SimPlatform.start(shape, load.lingerSeconds, { latencies: { ...CLUSTER_LATENCIES, create: [20, 120] } });
  closers.push(() => platform.close());
  const traffic = new SimTraffic(shape, load.requestsPerSecond, platform.paths.linkSocket);
  closers.push(() => traffic.close());
  await traffic.connect();
  return { platform, traffic };
}

describe('many functions, several gateways', () => {
  it('are all served while some are deployed, a link breaks and the controller changes; then nothing is left but the pool', async () => {
    const { platform, traffic } = await start(SHAPE);
    platform.begin();
    platform.deployOn();
    traffic.begin();
    traffic.start();
    await sleep(SHAPE.seconds * 500);
    await traffic.gateways[0]!.reconnect();
    const { adopted } = await platform.restart();
    expect(adopted).toBeGreaterThan(0);
    await sleep(SHAPE.seconds * 500);
    traffic.stop();
    await waitFor('all that was asked to be answered', () => traffic.open === 0, { timeoutMs: 30_000 });
    const { kinds, failed, requestsPerSecond } = traffic.end();
    expect(failed).toEqual({});
    expect(requestsPerSecond).toBeGreaterThan(0);
    expect(kinds.pooled.count + kinds.full.count).toBeGreaterThan(10);
    await waitFor('no leases', () => traffic.leases === 0, { timeoutMs: 30_000 });
    await waitFor(
      'scaling to zero',
      async () => {
        const { serving, starting, draining, generic } = await platform.instances();
        return serving + starting + draining === 0 && generic > 0;
      },
      { timeoutMs: 30_000 },
    );
    const { cluster, records } = platform;
    expect(cluster.counts.doubleClaims).toBe(0);
    expect(cluster.counts.claims).toBe(cluster.counts.inits);
    const { generic } = await platform.instances();
    expect([cluster.pods.size, records.size]).toEqual([generic, generic]);
    const figures = await platform.end();
    expect(figures.passes.decisions).toBeGreaterThan(figures.claims);
  });
});

describe('the model of the traffic', () => {
  it('has the cold starts and instances that it is asked for', () => {
    const shares = zipfShares(1_000, 0.8);
    const { requestsPerSecond, lingerSeconds } = loadFor(shares, 50, 400);
    const instances = shares.reduce((sum, share) => sum + 1 - Math.exp(-requestsPerSecond * share * lingerSeconds), 0);
    const cold = shares.reduce((sum, share) => sum + requestsPerSecond * share * Math.exp(-requestsPerSecond * share * lingerSeconds), 0);
    expect(instances).toBeCloseTo(400, 1);
    expect(cold).toBeCloseTo(50, 1);
  });

  it('is the same for the same seed', () => {
    const draw = (seed: number) => {
      const pick = picker(zipfShares(100, 1), seeded(seed));
      return Array.from({ length: 50 }, pick);
    };
    expect(draw(3)).toEqual(draw(3));
    expect(draw(3)).not.toEqual(draw(4));
    expect(Math.max(...draw(3))).toBeLessThan(100);
  });
});
