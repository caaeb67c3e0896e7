/** What must not go wrong where one controller follows another, or an answer of the API server says less than it seems to. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { newInstanceId } from '#kit/ids.ts';
import { silentLog } from '#kit/log.ts';
import { waitFor } from '../../../test/helpers/wait.ts';
import { FakeKube } from '../../kube/fake.ts';
import { ACCESS_REVIEWS, PODS } from '../../kube/resources.ts';
import { KubernetesSettings } from '../../kube/settings.ts';
import { KubeError } from '../../kube/types.ts';
import { ClaimLost, type CreateSpec, type Driver, type Leaving } from '../types.ts';
import { claim } from './claim.ts';
import { createKubernetesDriver } from './driver.ts';
import { LABELS, podName } from './labels.ts';
import { CONTAINER, podManifest } from './pod.ts';

const NS = 'fn-functions';
const settings = KubernetesSettings.parse({ installation: 'x' });
const RUNNING = { phase: 'Running', podIP: '10.0.0.1', containerStatuses: [{ name: CONTAINER, state: { running: {} } }] };
const never = new AbortController().signal;

const spec = (): CreateSpec => ({
  id: newInstanceId(),
  runtime: 'node',
  memoryClassMib: 128,
  network: 'none',
  image: null,
  sandbox: null,
  nonce: 'n',
});

let kube: FakeKube;
let clock: VirtualClock;
let driver: Driver;

beforeEach(() => {
  kube = new FakeKube();
  clock = new VirtualClock();
  const create = kube.create.bind(kube);
  kube.create = (resource, namespace, manifest) =>
    resource.plural === ACCESS_REVIEWS.plural
      ? Promise.resolve(resource.schema.parse({ status: { allowed: true } }))
      : create(resource, namespace, manifest);
  driver = createKubernetesDriver({ api: kube, settings, images: { node: 'fn/node:1' }, version: '1', log: silentLog, clock });
});
afterEach(() => driver.close());

const start = async () => {
  await driver.start();
  await waitFor('the watch', () => kube.watching === 1, { everyMs: 1 });
};

/** A pod that another controller made, and that runs. */
const makePod = async (of = spec()) => {
  await kube.create(PODS, NS, podManifest({ settings, spec: of, image: 'fn/node:1', version: '1', owner: { name: 'o', uid: 'u' } }));
  kube.change(PODS, NS, podName('x', of.id), { spec: { nodeName: 'node' }, status: RUNNING });
  return of;
};

describe('a pod that is taken away while controllers change', () => {
  it('is told of as leaving to who asks only after the driver has started', async () => {
    const of = await makePod();
    await kube.delete(PODS, NS, podName('x', of.id), { graceSeconds: 60 });
    await start();
    const told: Leaving[] = [];
    driver.onLeaving((leaving) => void told.push(leaving));
    expect(told.map(({ id }) => id)).toEqual([of.id]);
    // And to nobody twice.
    driver.onLeaving((leaving) => void told.push(leaving));
    expect(told).toHaveLength(1);
  });
});

describe('a creation that the API server failed at', () => {
  it('may have been done all the same: what it made goes', async () => {
    await start();
    const wanted = spec();
    const create = kube.create.bind(kube);
    let late: () => Promise<void> = () => Promise.resolve();
    kube.create = (resource, namespace, manifest) => {
      if (resource.plural !== PODS.plural) return create(resource, namespace, manifest);
      late = async () => void (await create(resource, namespace, manifest));
      return Promise.reject(new KubeError('etcdserver: request timed out', 500, 'InternalError'));
    };
    await expect(driver.create(wanted, never)).rejects.toThrow(/cannot take another pod now/);
    await late();
    await waitFor('its end', () => kube.raw(PODS, NS, podName('x', wanted.id)) === null, { everyMs: 1 });
    expect(await driver.list()).toEqual([]);
  });
});

describe('a pod that another controller has claimed', () => {
  it('is not claimed again, also where that was heard of before', async () => {
    const of = await makePod();
    kube.change(PODS, NS, podName('x', of.id), { metadata: { labels: { [LABELS.state]: 'claimed' } } });
    const pod = PODS.schema.parse(kube.raw(PODS, NS, podName('x', of.id)));
    const claiming = claim(pod, { api: kube, namespace: NS, revision: 'default/hello@1', egress: 'none' });
    await expect(claiming).rejects.toBeInstanceOf(ClaimLost);
    expect(kube.requests.get('patch')).toBeUndefined();
  });
});

describe('a pod whose end is not confirmed', () => {
  it('does not keep the driver from closing', async () => {
    await start();
    const wanted = spec();
    const abort = new AbortController();
    const creating = driver.create(wanted, abort.signal);
    const failure = creating.catch((error: unknown) => error);
    await waitFor('the pod', () => kube.raw(PODS, NS, podName('x', wanted.id)) !== null, { everyMs: 1 });
    kube.change(PODS, NS, podName('x', wanted.id), { spec: { nodeName: 'node' } });
    kube.fault = (verb) => {
      if (verb === 'delete') throw new KubeError('not now', 503, 'ServiceUnavailable');
    };
    abort.abort(new Error('nobody wants it any more'));
    expect(String(await failure)).toMatch(/nobody wants it/);
    kube.fault = null;
    const deletes = kube.requests.get('delete') ?? 0;
    // From here on it is looked after, and never goes, for its node is gone.
    clock.advance(30_000);
    await waitFor('the second try', () => (kube.requests.get('delete') ?? 0) > deletes, { everyMs: 1 });
    await driver.close();
    expect(kube.raw(PODS, NS, podName('x', wanted.id))).not.toBeNull();
  });
});
