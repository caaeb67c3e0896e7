/** The kinds of objects that fn works with, and what of each is read. Whatever else the API says of them is not kept. */
import { z } from 'zod';
import { ObjectMeta, type KubeObject, type Resource } from './types.ts';

const OwnerReference = z.object({ kind: z.string(), name: z.string(), uid: z.string(), controller: z.boolean().optional() });

/** One of the three is there. */
const ContainerState = z.object({
  waiting: z.object({ reason: z.string().default(''), message: z.string().default('') }).optional(),
  running: z.object({ startedAt: z.string().nullish() }).optional(),
  terminated: z
    .object({
      exitCode: z.number().int(),
      signal: z.number().int().optional(),
      reason: z.string().default(''),
      message: z.string().default(''),
      startedAt: z.string().nullish(),
      finishedAt: z.string().nullish(),
    })
    .optional(),
});
export type ContainerState = z.infer<typeof ContainerState>;

export const Pod = z.object({
  metadata: ObjectMeta.extend({ ownerReferences: z.array(OwnerReference).optional() }),
  spec: z
    .object({
      nodeName: z.string().optional(),
      runtimeClassName: z.string().optional(),
      containers: z.array(z.object({ name: z.string(), image: z.string().default('') })).default([]),
    })
    .default({ containers: [] }),
  status: z
    .object({
      phase: z.string().default('Pending'),
      reason: z.string().default(''),
      message: z.string().default(''),
      podIP: z.string().default(''),
      conditions: z
        .array(z.object({ type: z.string(), status: z.string(), reason: z.string().nullish(), message: z.string().nullish() }))
        .default([]),
      containerStatuses: z.array(z.object({ name: z.string(), state: ContainerState.default({}) })).default([]),
    })
    .default({ phase: 'Pending', reason: '', message: '', podIP: '', conditions: [], containerStatuses: [] }),
});
export type Pod = z.infer<typeof Pod>;
export const PODS: Resource<Pod> = { group: '', version: 'v1', plural: 'pods', kind: 'Pod', schema: Pod };

export const ConfigMap = z.object({ metadata: ObjectMeta, data: z.record(z.string(), z.string()).default({}) });
export type ConfigMap = z.infer<typeof ConfigMap>;
export const CONFIG_MAPS: Resource<ConfigMap> = { group: '', version: 'v1', plural: 'configmaps', kind: 'ConfigMap', schema: ConfigMap };

export const NetworkPolicy = z.object({ metadata: ObjectMeta });
export type NetworkPolicy = z.infer<typeof NetworkPolicy>;
export const NETWORK_POLICIES: Resource<NetworkPolicy> = {
  group: 'networking.k8s.io',
  version: 'v1',
  plural: 'networkpolicies',
  kind: 'NetworkPolicy',
  schema: NetworkPolicy,
};

/** What the cluster says of another object, for people: why a pod does not start. */
export const ClusterEvent = z.object({
  metadata: ObjectMeta,
  type: z.string().default('Normal'),
  reason: z.string().nullish(),
  message: z.string().nullish(),
});
export type ClusterEvent = z.infer<typeof ClusterEvent>;
export const CLUSTER_EVENTS: Resource<ClusterEvent> = { group: '', version: 'v1', plural: 'events', kind: 'Event', schema: ClusterEvent };

/** What a pod used of late, by the metrics-server; a cluster may have none. */
export const PodMetrics = z.object({
  metadata: ObjectMeta,
  timestamp: z.string(),
  window: z.string(),
  containers: z.array(z.object({ name: z.string(), usage: z.object({ cpu: z.string(), memory: z.string() }) })).default([]),
});
export type PodMetrics = z.infer<typeof PodMetrics>;
export const POD_METRICS: Resource<PodMetrics> = {
  group: 'metrics.k8s.io',
  version: 'v1beta1',
  plural: 'pods',
  kind: 'PodMetrics',
  schema: PodMetrics,
};

/** Whether we may do something: created, never stored, so it has no name. */
export const AccessReview = z
  .object({ status: z.object({ allowed: z.boolean(), reason: z.string().default('') }) })
  .transform(({ status }) => ({ metadata: ObjectMeta.parse({ name: '' }), status }));
export type AccessReview = z.infer<typeof AccessReview>;
/** Of the cluster, not of a namespace: asked with the namespace ''. */
export const ACCESS_REVIEWS: Resource<AccessReview> = {
  group: 'authorization.k8s.io',
  version: 'v1',
  plural: 'selfsubjectaccessreviews',
  kind: 'SelfSubjectAccessReview',
  schema: AccessReview,
};

/** `v1`, `networking.k8s.io/v1`: as in a manifest. */
export function apiVersion<T extends KubeObject>({ group, version }: Resource<T>): string {
  return group === '' ? version : `${group}/${version}`;
}

/** Where the API server has it. Namespace '': of the cluster, or of all namespaces. */
export function resourcePath<T extends KubeObject>({ group, version, plural }: Resource<T>, namespace: string, name?: string): string {
  const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
  const parts = [...(namespace === '' ? [] : ['namespaces', namespace]), plural, ...(name === undefined ? [] : [name])];
  return [root, ...parts.map(encodeURIComponent)].join('/');
}
