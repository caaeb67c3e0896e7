import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { waitFor } from '../../../test/helpers/wait.ts';
import { FakeKube } from '../../kube/fake.ts';
import { apiVersion, POD_METRICS } from '../../kube/resources.ts';
import { KubeError } from '../../kube/types.ts';
import { LABELS } from './labels.ts';
import { PodUsage, quantity, READ_EVERY_MS, seconds } from './usage.ts';

const NS = 'fn-functions';

describe('numbers of Kubernetes', () => {
  it('quantities', () => {
    expect(['1500n', '250m', '2', '40512Ki', '1.5Gi', '7k'].map(quantity)).toEqual([1.5e-6, 0.25, 2, 41_484_288, 1_610_612_736, 7_000]);
    expect(['', 'x', '5Q', '-1'].map(quantity)).toEqual([NaN, NaN, NaN, NaN]);
  });

  it('durations', () => {
    expect(['30s', '1m', '1m2.5s', '1h0m1s'].map(seconds)).toEqual([30, 60, 62.5, 3_601]);
    expect(['', '30', 'soon'].map(seconds)).toEqual([NaN, NaN, NaN]);
  });
});

describe('what pods have used', () => {
  let kube: FakeKube;
  let clock: VirtualClock;
  let usage: PodUsage;

  const metrics = (at: number, cpu: string, window = '15s') => ({
    timestamp: new Date(at * 1_000).toISOString(),
    window,
    containers: [{ name: 'fn', usage: { cpu, memory: '40000Ki' } }],
  });
  const reads = () => kube.requests.get('list') ?? 0;
  /** The metrics-server has something new, and it is read. */
  const say = async (at: number, cpu: string, window?: string) => {
    kube.change(POD_METRICS, NS, 'pod', metrics(at, cpu, window));
    await readAgain();
  };
  const readAgain = async () => {
    const before = reads();
    await waitFor(
      'another look',
      () => {
        clock.advance(READ_EVERY_MS);
        return reads() > before;
      },
      { everyMs: 1 },
    );
    await waitFor('its answer', () => new Promise<boolean>((resolve) => setImmediate(() => resolve(true))));
  };

  beforeEach(async () => {
    kube = new FakeKube();
    clock = new VirtualClock();
    const labels = { [LABELS.installation]: 'x', [LABELS.instance]: 'i-aaaaaaaaaaaa' };
    const { group, version, kind } = POD_METRICS;
    await kube.create(POD_METRICS, NS, {
      apiVersion: apiVersion(POD_METRICS),
      kind: `${kind} ${group} ${version}`,
      metadata: { name: 'pod', labels },
      ...metrics(1_000, '500m'),
    });
    usage = new PodUsage({ api: kube, namespace: NS, installation: 'x', clock, log: silentLog });
    usage.start();
    await waitFor('the first look', () => usage.source === 'metrics-api');
  });
  afterEach(() => usage.close());

  it('is rate × window, and what lies between two windows; the same window counts once', async () => {
    const { counter, ...first } = usage.of('i-aaaaaaaaaaaa')!;
    expect(first).toEqual({ cpuUs: 7_500_000, memoryBytes: 40_960_000, peakBytes: null });
    await readAgain();
    expect(usage.of('i-aaaaaaaaaaaa')?.cpuUs).toBe(7_500_000);
    await say(1_020, '250000000n');
    expect(usage.of('i-aaaaaaaaaaaa')).toMatchObject({ counter, cpuUs: 12_500_000 });
    // Far from the one before, only the window itself is known.
    await say(2_000, '1', '30s');
    expect(usage.of('i-aaaaaaaaaaaa')?.cpuUs).toBe(42_500_000);
  });

  it('what makes no sense is not counted, and a pod that is gone has nothing', async () => {
    await say(1_015, 'much');
    expect(usage.of('i-aaaaaaaaaaaa')?.cpuUs).toBe(7_500_000);
    kube.remove(POD_METRICS, NS, 'pod');
    await readAgain();
    expect(usage.of('i-aaaaaaaaaaaa')).toBeNull();
  });

  it('a cluster without metrics says so, until it has them', async () => {
    kube.fault = () => {
      throw new KubeError('the server could not find the requested resource', 404, 'NotFound');
    };
    await readAgain();
    expect(usage.source).toBe('none');
    kube.fault = null;
    await readAgain();
    await waitFor('the next look', () => usage.source === 'metrics-api');
  });
});
