/** The Kubernetes cluster of the tests, for suites: hooks that wait for it, and that delete what a suite made in it. */
import { afterAll, beforeAll } from 'vitest';
import { CLUSTER_TIMEOUT_MS, type Cluster, findCluster } from './kube.ts';

export type { Manifest, ToolOptions, ToolResult } from './kube.ts';

export interface ClusterOptions {
  /** Images of this machine's Docker that the nodes must have. */
  images?: readonly string[];
}

export interface SuiteCluster {
  (): Cluster;
  /** Makes a namespace of the suite: deleted with all that is in it when the suite is over. */
  namespace(prefix: string, labels?: Readonly<Record<string, string>>): Promise<string>;
}

/**
 * The cluster for the tests of a `describe` or a file. There is none: its tests fail, and say what to do.
 *
 *     const cluster = useCluster();
 *     const namespace = await cluster.namespace('drv');
 *     await cluster().kubectl(['get', 'pods', '-n', namespace]);
 */
export function useCluster({ images = [] }: ClusterOptions = {}): SuiteCluster {
  let cluster: Cluster | undefined;
  const namespaces: string[] = [];
  beforeAll(async () => {
    cluster = await findCluster();
    await cluster.loadImages(...images);
  }, CLUSTER_TIMEOUT_MS);
  afterAll(async () => {
    await cluster?.deleteNamespaces(...namespaces);
  });
  const get = (): Cluster => {
    if (!cluster) throw new Error('the cluster is there from beforeAll on');
    return cluster;
  };
  return Object.assign(get, {
    async namespace(prefix: string, labels: Readonly<Record<string, string>> = {}) {
      const name = await get().namespace(prefix, labels);
      namespaces.push(name);
      return name;
    },
  });
}
