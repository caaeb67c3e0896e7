import { afterAll, beforeAll } from 'vitest';
import { z } from 'zod';
import { silentLog } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import { createKubernetesDriver } from '../../controller/driver/kubernetes/driver.ts';
import { hasEnded } from '../../controller/driver/kubernetes/instance.ts';
import { createKubeApi } from '../../controller/kube/api.ts';
import { PODS } from '../../controller/kube/resources.ts';
import { KubernetesSettings } from '../../controller/kube/settings.ts';
import { useCluster } from '../helpers/cluster.ts';
import { findCluster } from '../helpers/kube.ts';
import { processesOfPod } from '../helpers/platform-cluster.ts';
import { waitFor } from '../helpers/wait.ts';
import { kubernetesFacts } from './driver.kubernetes-facts.ts';
import { runtimeImages } from './driver.image.ts';
import { driverSuite, type DriverHarness } from './driver.suite.ts';

const images = await runtimeImages();
const { kubeconfig } = await findCluster();
const api = await createKubeApi({ kubeconfig, log: silentLog });
const cluster = useCluster({ images: Object.values(images) });
let namespace = '';

beforeAll(async () => {
  namespace = await cluster.namespace('drv');
});
afterAll(() => api.close());

const settingsOf = ({ homeId }: HomePaths) =>
  KubernetesSettings.parse({ namespace, installation: `drv-${homeId}`, networkPolicies: 'enforced' });

const Objects = z.object({ items: z.array(z.object({ kind: z.string(), metadata: z.object({ name: z.string(), uid: z.string() }) })) });

const objectsOf = async (kinds: string, selector: string) =>
  (await cluster().get(Objects, [kinds, '--namespace', namespace, '--selector', selector])).items;

const harness: DriverHarness = {
  name: 'kubernetes',
  make: (paths) => createKubernetesDriver({ api, settings: settingsOf(paths), images, version: 'test', log: silentLog }),
  // Killed when the cluster knows it, as for Docker.
  killOutside: async ({ id, handle }) => {
    const [pod] = await objectsOf('pods', `fn.dev/instance=${id}`);
    const pid = processesOfPod(pod?.metadata.uid ?? '').at(-1);
    if (pid === undefined) throw new Error(`no process of ${id} is on this machine`);
    process.kill(pid, 'SIGKILL');
    await waitFor('the kubelet to tell of it', async () => hasEnded(await api.get(PODS, namespace, handle)));
  },
  leftovers: async (paths) => {
    const left = await objectsOf('pods,networkpolicies,configmaps', `fn.dev/installation=${settingsOf(paths).installation}`);
    return left.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  },
};

driverSuite(harness);
kubernetesFacts({ api, images, kubeconfig, cluster, namespace: () => namespace, settingsOf, harness });
