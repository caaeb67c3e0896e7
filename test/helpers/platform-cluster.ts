/** The cluster's part of a platform whose gateway and controller run on this host: a namespace for its pods, and the images. */
import { z } from 'zod';
import { type Cluster, findCluster } from './kube.ts';
import { buildRuntimes } from './runtime-images.ts';

/** Memory of all pods of one platform, MiB: the machine's, not the host's share of it. */
const BUDGET_MIB = '4096';

const Names = z.object({ items: z.array(z.object({ kind: z.string(), metadata: z.object({ name: z.string() }) })) });

export interface PlatformCluster {
  namespace: string;
  cluster: Cluster;
  env: Record<string, string>;
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
    async dispose() {
      const left = await cluster.get(Names, ['pods,networkpolicies', '--namespace', namespace]);
      await cluster.deleteNamespaces(namespace);
      return left.items.map(({ kind, metadata }) => `${kind} ${metadata.name} in the cluster`);
    },
  };
}
