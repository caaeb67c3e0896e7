/** The cluster's part of a platform whose gateway and controller run on this host: a namespace for its pods, and the images. */
import { readFileSync, readdirSync } from 'node:fs';
import { z } from 'zod';
import { type Cluster, findCluster } from './kube.ts';
import { buildRuntimes } from './runtime-images.ts';

/** Memory of all pods of one platform, MiB: the machine's, not the host's share of it. */
const BUDGET_MIB = '4096';

const Pods = z.object({ items: z.array(z.object({ metadata: z.object({ uid: z.string() }) })) });

/** By their cgroup, the oldest first: the sandbox's own, then the container's. */
export function processesOfPod(uid: string): number[] {
  const inPod = (pid: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/cgroup`, 'utf8').replaceAll('_', '-').includes(`pod${uid}`);
    } catch {
      // It has ended since the folder was read.
      return false;
    }
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && inPod(name))
    .map(Number)
    .toSorted((a, b) => a - b);
}

const Names = z.object({ items: z.array(z.object({ kind: z.string(), metadata: z.object({ name: z.string() }) })) });

export interface PlatformCluster {
  namespace: string;
  cluster: Cluster;
  env: Record<string, string>;
  /** Of the shim in the pod of an instance: the nodes of the tests' own cluster are this machine. Throws where it is not there. */
  pidOf(instance: string): Promise<number>;
  /** Deletes the namespace. Returns what `fn down` left in it, a sentence each. */
  dispose(): Promise<string[]>;
}

/** `runtimes`: those that the suite deploys functions of. */
export async function prepareCluster(runtimes: readonly string[] = ['node']): Promise<PlatformCluster> {
  const cluster = await findCluster();
  const images = await buildRuntimes(...runtimes);
  await cluster.loadImages(...Object.values(images));
  const namespace = await cluster.namespace('fnt');
  const settings = { kubeconfig: cluster.kubeconfig, namespace, networkPolicies: 'unfiltered' };
  return {
    namespace,
    cluster,
    env: {
      FN_KUBERNETES: JSON.stringify(settings),
      FN_RUNTIME_IMAGES: JSON.stringify(images),
      FN_MEMORY_BUDGET_MIB: BUDGET_MIB,
    },
    async pidOf(instance) {
      const pods = await cluster.get(Pods, ['pods', '--namespace', namespace, '--selector', `fn.dev/instance=${instance}`]);
      const uid = pods.items[0]?.metadata.uid;
      const pid = uid === undefined ? undefined : processesOfPod(uid).at(-1);
      if (pid === undefined) throw new Error(`no process of the pod of ${instance} is on this machine`);
      return pid;
    },
    async dispose() {
      const left = await cluster.get(Names, ['pods,networkpolicies', '--namespace', namespace]);
      await cluster.deleteNamespaces(namespace);
      return left.items.map(({ kind, metadata }) => `${kind} ${metadata.name} in the cluster`);
    },
  };
}
