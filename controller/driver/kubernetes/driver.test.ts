import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { newInstanceId } from '#kit/ids.ts';
import { silentLog } from '#kit/log.ts';
import { waitFor } from '../../../test/helpers/wait.ts';
import { FakeKube } from '../../kube/fake.ts';
import { ACCESS_REVIEWS, CLUSTER_EVENTS, PODS, type Pod } from '../../kube/resources.ts';
import { KubernetesSettings } from '../../kube/settings.ts';
import { KubeUnreachable } from '../../kube/types.ts';
import { ClaimLost, DriverUnavailable, type CreateSpec, type Driver, type Exit } from '../types.ts';
import { claim } from './claim.ts';
import { createKubernetesDriver } from './driver.ts';
import { podName } from './labels.ts';
import { CONTAINER, podManifest } from './pod.ts';

const NS = 'fn-functions';
const settings = KubernetesSettings.parse({ installation: 'x' });
const spec = (): CreateSpec => ({
  id: newInstanceId(),
  runtime: 'node',
  memoryClassMib: 128,
  network: 'none',
  image: null,
  sandbox: null,
  nonce: 'n',
});
const never = new AbortController().signal;
const RUNNING = { phase: 'Running', podIP: '10.0.0.1', containerStatuses: [{ name: CONTAINER, state: { running: {} } }] };

describe('the kubernetes driver', () => {
  let kube: FakeKube;
  let clock: VirtualClock;
  let driver: Driver;
  let exits: Exit[];

  beforeEach(async () => {
    kube = new FakeKube();
    clock = new VirtualClock();
    exits = [];
    // Every question whether it may is answered with yes.
    const create = kube.create.bind(kube);
    kube.create = (resource, namespace, manifest) =>
      resource.plural === ACCESS_REVIEWS.plural
        ? Promise.resolve(resource.schema.parse({ status: { allowed: true } }))
        : create(resource, namespace, manifest);
    driver = createKubernetesDriver({ api: kube, settings, images: { node: 'fn/node:1' }, version: '1', log: silentLog, clock });
    driver.onExit((exit) => void exits.push(exit));
    await driver.start();
    await waitFor('the watch', () => kube.watching === 1, { everyMs: 1 });
  });
  afterEach(() => driver.close());

  const nameOf = ({ id }: Pick<CreateSpec, 'id'>) => podName('x', id);
  /** As a kubelet would say. */
  const becomes = (of: CreateSpec, status: Record<string, unknown>) =>
    kube.change(PODS, NS, nameOf(of), { spec: { nodeName: 'node' }, status });
  const isThere = (of: CreateSpec) => waitFor('the pod', () => kube.raw(PODS, NS, nameOf(of)) !== null, { everyMs: 1 });
  const boot = async (of = spec()) => {
    const creating = driver.create(of, never);
    await isThere(of);
    becomes(of, RUNNING);
    return creating;
  };

  it('fails a creation for which there is no room, in time and with the scheduler’s words, and leaves nothing', async () => {
    const wanted = spec();
    const creating = driver.create(wanted, never);
    const failure = creating.catch((error: unknown) => error);
    await isThere(wanted);
    const unschedulable = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/3 nodes are available.' };
    kube.change(PODS, NS, nameOf(wanted), { status: { conditions: [unschedulable] } });
    let settled = false;
    void failure.finally(() => (settled = true));
    const begun = clock.now();
    let changes = 0;
    await waitFor(
      'the end of its patience',
      () => {
        if (settled) return true;
        clock.advance(1_000);
        if (kube.raw(PODS, NS, nameOf(wanted)) !== null)
          kube.change(PODS, NS, nameOf(wanted), { metadata: { annotations: { change: String((changes += 1)) } } });
        return false;
      },
      { everyMs: 2 },
    );
    expect(clock.now() - begun).toBeGreaterThanOrEqual(15_000);
    expect(await failure).toBeInstanceOf(DriverUnavailable);
    expect(String(await failure)).toMatch(/has room.*0\/3 nodes are available/);
    expect(kube.raw(PODS, NS, nameOf(wanted))).toBeNull();
    expect(await driver.list()).toEqual([]);
  });

  it('refuses hosts by name, and says what to do', async () => {
    const { refused } = await driver.checkHosts(['api.example.com'], ['10.0.0.0/8']);
    expect(refused).toEqual([{ host: 'api.example.com', why: expect.stringContaining('list networks') }]);
    // Also of a revision that came from elsewhere.
    const { id } = await boot();
    const given = { bundleDir: '/', memoryMib: 128, cpu: 1, egress: ['api.example.com'], revision: 'default/hello@1' as const, nonce: 'n' };
    await expect(driver.specialise(id, given)).rejects.toThrow(DriverUnavailable);
  });

  it('says what the cluster said of a pod that did not start in time', async () => {
    const wanted = spec();
    await kube.create(CLUSTER_EVENTS, NS, {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: 'e' },
      involvedObject: { name: nameOf(wanted) },
      reason: 'FailedCreatePodSandBox',
      message: 'no addresses left',
    });
    await expect(driver.create(wanted, AbortSignal.timeout(20))).rejects.toThrow(
      /did not start in time. FailedCreatePodSandBox: no addresses left/,
    );
    expect(kube.raw(PODS, NS, nameOf(wanted))).toBeNull();
  });

  it('undoes a creation that nobody knew the end of when it comes true', async () => {
    const wanted = spec();
    kube.fault = (verb, path) =>
      path.endsWith('/pods') && verb === 'create' ? Promise.reject(new KubeUnreachable('no answer')) : undefined;
    await expect(driver.create(wanted, never)).rejects.toBeInstanceOf(DriverUnavailable);
    kube.fault = null;
    await kube.create(PODS, NS, podManifest({ settings, spec: wanted, image: 'i', version: '1', owner: { name: 'o', uid: 'u' } }));
    await waitFor('its end', () => kube.raw(PODS, NS, nameOf(wanted)) === null, { everyMs: 1 });
    expect(exits).toEqual([]);
  });

  it('forgets the pod of a node that does not confirm its end, after a while', async () => {
    const wanted = spec();
    await boot(wanted);
    const killing = driver.kill(wanted.id);
    await waitFor('the deletion', () => kube.requests.get('delete') === 1, { everyMs: 1 });
    clock.advance(121_000);
    kube.change(PODS, NS, nameOf(wanted), { metadata: { annotations: { a: '1' } } });
    await killing;
    expect(kube.raw(PODS, NS, nameOf(wanted))).toBeNull();
    expect(exits).toEqual([]);
    expect(await driver.list()).toEqual([]);
  });

  it('tells ends once: those of a function, and those that others brought about', async () => {
    const [one, other] = [spec(), spec()];
    await Promise.all([boot(one), boot(other)]);
    const terminated = { exitCode: 3, reason: 'Error' };
    becomes(one, { phase: 'Failed', containerStatuses: [{ name: CONTAINER, state: { terminated } }] });
    kube.remove(PODS, NS, nameOf(other));
    await waitFor('both ends', () => exits.length === 2, { everyMs: 1 });
    await driver.kill(one.id);
    expect(exits).toEqual([
      { id: one.id, cause: 'exit', detail: 'exit code 3' },
      { id: other.id, cause: 'lost', detail: 'the pod is Running' },
    ]);
  });

  it('touches nothing that is not its own', async () => {
    const foreign = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: nameOf({ id: 'i-000000000000' }), labels: { 'fn.dev/installation': 'y' } },
    };
    await kube.create(PODS, NS, foreign);
    await driver.kill('i-000000000000');
    await driver.destroyAll();
    expect(kube.raw(PODS, NS, foreign.metadata.name)).not.toBeNull();
  });
});

describe('a claim', () => {
  const kube = new FakeKube();
  const options = { api: kube, namespace: NS, revision: 'default/f@2', egress: 'none' };
  const generic = async () =>
    kube.create(PODS, NS, podManifest({ settings, spec: spec(), image: 'i', version: '1', owner: { name: 'o', uid: 'u' } }));

  it('is tried again where only the kubelet wrote', async () => {
    const pod = await generic();
    kube.change(PODS, NS, pod.metadata.name, { status: { phase: 'Running' } });
    const claimed = await claim(pod, options);
    expect(claimed.metadata.labels).toMatchObject({ 'fn.dev/state': 'claimed', 'fn.dev/function': 'f', 'fn.dev/revision': '2' });
  });

  it('is ours where its answer was lost, and lost where it is another’s', async () => {
    const pod = await generic();
    const patch = kube.patch.bind(kube);
    kube.patch = async (...args) => {
      await patch(...args);
      throw new KubeUnreachable('the answer was lost');
    };
    try {
      const claimed: Pod = await claim(pod, options);
      expect(claimed.metadata.labels['fn.dev/state']).toBe('claimed');
    } finally {
      kube.patch = patch;
    }
    await expect(claim(pod, options)).rejects.toBeInstanceOf(ClaimLost);
  });
});
