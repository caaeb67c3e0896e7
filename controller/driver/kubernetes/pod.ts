/**
 * How the pod of an instance is made. This is the allow-list: a pod is built here, field by field, and nothing that a user
 * says is passed through. What it sets is the security floor, which is what Kubernetes calls `restricted` and more; the test
 * beside it fails when a field is added, lost or loosened. docs/kubernetes-instances.md says it in words.
 */
import { createHash } from 'node:crypto';
import { tmpSizeMib } from '#contract/function.ts';
import type { BootEnv } from '#contract/runtime.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';
import type { Manifest } from '../../kube/types.ts';
import { imageArguments } from '../boot.ts';
import type { CreateSpec } from '../types.ts';
import { ANNOTATIONS, LABELS, podName } from './labels.ts';

/** uid and gid of every instance: `nonroot`, of no use on the node. */
export const INSTANCE_UID = 65_532;
/** Name of the one container of a pod. */
export const CONTAINER = 'instance';
/** Paths inside an instance. */
export const INSIDE = { code: '/fn/code', tmp: '/tmp' } as const;
/** Of the code, unpacked: the largest bundle, and a file system's own. A pod that writes more than this is evicted. */
const CODE_MIB = 512;
/** Of its output that the node keeps, beside the code. */
const LOGS_MIB = 64;

export interface PodPlan {
  settings: KubernetesSettings;
  spec: CreateSpec;
  /** Of the runtime. */
  image: string;
  /** The platform's version. */
  version: string;
  /** ConfigMap that the pod goes with. */
  owner: { name: string; uid: string };
}

/** Everything that the API server is told about an instance. */
export function podManifest(plan: PodPlan): Manifest {
  const { settings, spec, version, owner } = plan;
  const { pods } = settings;
  const instances = { [LABELS.installation]: settings.installation };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: podName(settings.installation, spec.id),
      namespace: settings.namespace,
      labels: {
        ...pods.labels,
        ...instances,
        'app.kubernetes.io/managed-by': 'fn',
        [LABELS.instance]: spec.id,
        [LABELS.runtime]: spec.runtime,
        [LABELS.memoryClass]: String(spec.memoryClassMib),
        [LABELS.network]: spec.network,
        [LABELS.state]: 'generic',
        [LABELS.egress]: spec.network === 'none' ? 'none' : 'internet',
      },
      annotations: {
        ...pods.annotations,
        [ANNOTATIONS.version]: version,
        // It is replaced elsewhere: a node may be taken away under it.
        'cluster-autoscaler.kubernetes.io/safe-to-evict': 'true',
      },
      // A controller, so that `kubectl drain` takes it for one that somebody looks after.
      ownerReferences: [
        { apiVersion: 'v1', kind: 'ConfigMap', name: owner.name, uid: owner.uid, controller: true, blockOwnerDeletion: false },
      ],
    },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      hostname: spec.id,
      terminationGracePeriodSeconds: pods.terminationGraceSeconds,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: INSTANCE_UID,
        runAsGroup: INSTANCE_UID,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      ...dns(spec),
      ...(spec.sandbox === null ? {} : { runtimeClassName: spec.sandbox }),
      ...(Object.keys(pods.nodeSelector).length === 0 ? {} : { nodeSelector: pods.nodeSelector }),
      ...(pods.tolerations.length === 0 ? {} : { tolerations: pods.tolerations }),
      ...(pods.priorityClassName === null ? {} : { priorityClassName: pods.priorityClassName }),
      ...(pods.imagePullSecrets.length === 0 ? {} : { imagePullSecrets: pods.imagePullSecrets.map((name) => ({ name })) }),
      ...(pods.spreadOver === null
        ? {}
        : {
            topologySpreadConstraints: [
              { maxSkew: 1, topologyKey: pods.spreadOver, whenUnsatisfiable: 'ScheduleAnyway', labelSelector: { matchLabels: instances } },
            ],
          }),
      containers: [container(plan)],
      volumes: [
        // In memory, so that it counts as the instance's, as on Docker.
        { name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: `${tmpSizeMib(spec.memoryClassMib)}Mi` } },
        { name: 'code', emptyDir: { sizeLimit: `${CODE_MIB}Mi` } },
      ],
    },
  };
}

/** Without a network there is nobody to ask for a name: a resolver that nobody listens at fails at once. */
function dns({ network }: CreateSpec): Record<string, unknown> {
  return network === 'none'
    ? { dnsPolicy: 'None', dnsConfig: { nameservers: ['127.0.0.1'] } }
    : // Names of the world have dots: they are not tried with the cluster's endings first.
      { dnsPolicy: 'ClusterFirst', dnsConfig: { options: [{ name: 'ndots', value: '1' }] } };
}

function container({ settings: { pods }, spec, image }: PodPlan): Record<string, unknown> {
  const args = imageArguments(spec.runtime, spec.memoryClassMib);
  // Who may read pods reads this, too: it says nothing about the nonce, and is good for checking one only.
  const nonce = `sha256:${createHash('sha256').update(spec.nonce).digest('hex')}`;
  const env: BootEnv = { FN_INSTANCE: spec.id, FN_NONCE: nonce, FN_PORT: String(pods.port), FN_CODE: INSIDE.code };
  const disk = { 'ephemeral-storage': `${CODE_MIB + LOGS_MIB}Mi` };
  return {
    name: CONTAINER,
    image,
    imagePullPolicy: pods.imagePullPolicy,
    ...(args === null ? {} : { args }),
    env: Object.entries(env).map(([name, value]) => ({ name, value: String(value) })),
    ports: [{ name: 'fn', containerPort: pods.port, protocol: 'TCP' }],
    resources: {
      requests: {
        cpu: cores(Math.min(pods.cpuRequest, pods.cpuLimit ?? Infinity)),
        memory: mib(spec.memoryClassMib * pods.memoryRequestRatio),
        'ephemeral-storage': '16Mi',
      },
      limits: { ...(pods.cpuLimit === null ? {} : { cpu: cores(pods.cpuLimit) }), memory: mib(spec.memoryClassMib), ...disk },
    },
    securityContext: {
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      { name: 'tmp', mountPath: INSIDE.tmp },
      { name: 'code', mountPath: INSIDE.code },
    ],
    // The end of its output, where it says nothing itself: kubectl describe shows why it ended.
    terminationMessagePolicy: 'FallbackToLogsOnError',
  };
}

/** `250m` */
export const cores = (number: number): string => `${Math.max(1, Math.round(number * 1_000))}m`;
/** `128Mi` */
export const mib = (number: number): string => `${Math.round(number)}Mi`;
