/** Settings of everything that concerns Kubernetes: one JSON text in FN_KUBERNETES, made by the chart from its values. */
import { z } from 'zod';

const Labels = z.record(z.string(), z.string()).default({});

/** As in a pod's spec. */
const Toleration = z.strictObject({
  key: z.string().optional(),
  operator: z.enum(['Exists', 'Equal']).optional(),
  value: z.string().optional(),
  effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
  tolerationSeconds: z.number().int().optional(),
});

export const KubernetesSettings = z.strictObject({
  /** File to reach the cluster by. null: the service account of the pod, else what kubectl would use. */
  kubeconfig: z.string().nullable().default(null),
  /** Namespace of the cluster that instances' pods are in. Nothing else should be. */
  namespace: z.string().min(1).default('fn-functions'),
  /** Of this installation's objects, where several share a namespace: label fn.dev/installation. */
  installation: z
    .string()
    .regex(/^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/)
    .default('fn'),
  /** ConfigMap of that namespace that owns the pods: with it, they go. null: one is made and lives as long as destroyAll() was not called. */
  owner: z.string().nullable().default(null),
  /** What runs instances, beside what is fixed (controller/driver/kubernetes/pod.ts). */
  pods: z
    .strictObject({
      labels: Labels,
      annotations: Labels,
      nodeSelector: Labels,
      tolerations: z.array(Toleration).default([]),
      priorityClassName: z.string().nullable().default(null),
      imagePullSecrets: z.array(z.string()).default([]),
      imagePullPolicy: z.enum(['IfNotPresent', 'Always', 'Never']).default('IfNotPresent'),
      /** Spread over nodes or zones by this topology key; null: the scheduler's own way. */
      spreadOver: z.string().nullable().default('kubernetes.io/hostname'),
      /** CPU that a pod asks for, cores: idle instances need next to none, so that a node holds many. */
      cpuRequest: z.number().min(0.001).max(64).default(0.02),
      /** Longest burst of CPU of an instance, cores, where the cluster cannot change it when the function is known. null: no limit. */
      cpuLimit: z.number().min(0.05).max(64).nullable().default(2),
      /** Of its memory limit, what a pod asks for. Below 1 nodes are overcommitted. */
      memoryRequestRatio: z.number().min(0.1).max(1).default(1),
      /** From SIGTERM (a node that is drained) to SIGKILL, seconds. */
      terminationGraceSeconds: z.number().int().min(1).max(3_600).default(60),
      /** Pods of instances may be dialled on this port only. Not 8080: that is what functions are told, and what programs listen on. */
      port: z.number().int().min(1_024).max(65_535).default(9_871),
    })
    .prefault({}),
  /** RuntimeClasses that functions may ask for (`sandbox:`). */
  sandboxes: z.array(z.string()).default([]),
  /**
   * Whether the network plugin of the cluster enforces NetworkPolicies. `enforced`: it does, and egress is filtered by them;
   * `none`: it does not, and functions that want egress are refused; `unfiltered`: it does not, and they may dial anything.
   */
  networkPolicies: z.enum(['enforced', 'unfiltered', 'none']).default('none'),
  /** Ranges that `egress: internet` does not mean: beside private and link-local ones, what else is inside. */
  internalCidrs: z.array(z.string()).default([]),
  /** A Lease of the namespace that the controllers are in: who holds it leads. null: the store says who leads. */
  lease: z.strictObject({ namespace: z.string(), name: z.string() }).nullable().default(null),
  /** Pod that this controller runs in: labelled as the leader while it leads. null: it runs elsewhere. */
  self: z.strictObject({ namespace: z.string(), pod: z.string() }).nullable().default(null),
  /** Namespaces of the cluster whose Function objects are declared to this platform, and the fn namespace of each. */
  declared: z.array(z.strictObject({ kubeNamespace: z.string(), namespace: z.string() })).default([]),
});
export type KubernetesSettings = z.infer<typeof KubernetesSettings>;
