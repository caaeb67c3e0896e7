/** The API server in memory, which tests of logic use, does what a real one does, in all that they rely on. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { createKubeApi } from '../../controller/kube/api.ts';
import { FakeKube } from '../../controller/kube/fake.ts';
import { CONFIG_MAPS, type ConfigMap } from '../../controller/kube/resources.ts';
import type { KubeApi, WatchEvent } from '../../controller/kube/types.ts';
import { useCluster } from '../helpers/cluster.ts';

const cluster = useCluster();
let namespace = '';
let real: KubeApi;
beforeAll(async () => {
  namespace = await cluster.namespace('api');
  real = await createKubeApi({ kubeconfig: cluster().kubeconfig, log: silentLog });
});
afterAll(() => real?.close());

const SELECTOR = { labels: 'suite=kube-api' };
const manifest = (name: string, data: Record<string, string> = {}) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, labels: { suite: 'kube-api' } },
  data,
});

describe.each([
  ['a real one', () => real],
  ['the one in memory', () => new FakeKube()],
] as const)('an API server: %s', (_, make) => {
  let api: KubeApi;
  beforeAll(() => {
    api = make();
  });
  const create = (name: string, data?: Record<string, string>) => api.create(CONFIG_MAPS, namespace, manifest(name, data));

  it('creates once, reads, lists by label, deletes', async () => {
    const made = await create('one', { k: 'v' });
    expect(made.metadata).toMatchObject({ name: 'one', namespace });
    expect(made.metadata.uid).not.toBe('');
    await expect(create('one')).rejects.toMatchObject({ status: 409, reason: 'AlreadyExists' });
    expect(await api.get(CONFIG_MAPS, namespace, 'one')).toEqual(made);
    expect((await api.list(CONFIG_MAPS, namespace, SELECTOR)).items).toEqual([made]);
    expect((await api.list(CONFIG_MAPS, namespace, { labels: 'suite=other' })).items).toEqual([]);
    await expect(api.delete(CONFIG_MAPS, namespace, 'one', { uid: '00000000-0000-0000-0000-000000000000' })).rejects.toMatchObject({
      reason: 'Conflict',
    });
    await api.delete(CONFIG_MAPS, namespace, 'one', { uid: made.metadata.uid });
    await expect(api.get(CONFIG_MAPS, namespace, 'one')).rejects.toMatchObject({ status: 404, reason: 'NotFound' });
    await expect(api.delete(CONFIG_MAPS, namespace, 'one')).rejects.toMatchObject({ reason: 'NotFound' });
  });

  it('fences writes by the version that was seen', async () => {
    const made = await create('fenced', { k: '1', gone: 'x' });
    const { resourceVersion } = made.metadata;
    const patched = await api.patch(CONFIG_MAPS, namespace, 'fenced', {
      type: 'merge',
      body: { metadata: { resourceVersion }, data: { k: '2', gone: null } },
    });
    expect(patched.data).toEqual({ k: '2' });
    expect(patched.metadata.uid).toBe(made.metadata.uid);
    const stale = { metadata: { resourceVersion, labels: { a: 'b' } } };
    await expect(api.patch(CONFIG_MAPS, namespace, 'fenced', { type: 'merge', body: stale })).rejects.toMatchObject({
      status: 409,
      reason: 'Conflict',
    });
    const replacement = manifest('fenced', { k: '3' });
    const put = (version: string) =>
      api.replace(CONFIG_MAPS, namespace, 'fenced', { ...replacement, metadata: { ...replacement.metadata, resourceVersion: version } });
    await expect(put(resourceVersion)).rejects.toMatchObject({ status: 409, reason: 'Conflict' });
    expect((await put(patched.metadata.resourceVersion)).data).toEqual({ k: '3' });
    const renamed = await api.patch(CONFIG_MAPS, namespace, 'fenced', {
      type: 'json',
      body: [{ op: 'add', path: '/metadata/labels/x~1y', value: 'z' }],
    });
    expect(renamed.metadata.labels).toEqual({ suite: 'kube-api', 'x/y': 'z' });
    await api.delete(CONFIG_MAPS, namespace, 'fenced');
  });

  it('watches from where a list ended: what comes to match, changes, ceases to, and is deleted', async () => {
    await create('before');
    const { resourceVersion } = await api.list(CONFIG_MAPS, namespace, SELECTOR);
    await create('a');
    await api.patch(CONFIG_MAPS, namespace, 'a', { type: 'merge', body: { data: { k: 'v' } } });
    await api.patch(CONFIG_MAPS, namespace, 'a', { type: 'merge', body: { metadata: { labels: { suite: 'other' } } } });
    await api.delete(CONFIG_MAPS, namespace, 'before');
    const abort = new AbortController();
    const seen: string[] = [];
    const tell = (event: WatchEvent<ConfigMap>) => (event.type === 'bookmark' ? [] : [`${event.type} ${event.object.metadata.name}`]);
    for await (const event of api.watch(CONFIG_MAPS, namespace, { resourceVersion, selector: SELECTOR }, abort.signal)) {
      seen.push(...tell(event));
      if (seen.length === 4) break;
    }
    expect(seen).toEqual(['added a', 'modified a', 'deleted a', 'deleted before']);
    await api.delete(CONFIG_MAPS, namespace, 'a');
  });

  it('ends a watch with the reason that it was aborted with', async () => {
    const { resourceVersion } = await api.list(CONFIG_MAPS, namespace, SELECTOR);
    const abort = new AbortController();
    const reason = new Error('enough');
    const watching = (async () => {
      for await (const event of api.watch(CONFIG_MAPS, namespace, { resourceVersion, selector: SELECTOR }, abort.signal))
        expect(event.type).toBe('bookmark');
    })();
    abort.abort(reason);
    await expect(watching).rejects.toBe(reason);
  });
});
