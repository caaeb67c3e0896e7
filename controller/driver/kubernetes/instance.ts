/** An instance as this driver knows it, read from what the API server says of its pod. */
import { InstanceId } from '#contract/names.ts';
import type { ContainerState, Pod } from '../../kube/resources.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';
import type { DriverInstance } from '../types.ts';
import { CONTAINER } from './pod.ts';
import { LABELS, podName } from './labels.ts';

/**
 * `creating` and `killing` keep what the cluster tells from being reported as an end by itself; `ended` keeps it from being
 * reported twice.
 */
export type Phase = 'creating' | 'running' | 'ended' | 'killing';

export interface Known {
  readonly id: string;
  phase: Phase;
  /** As last heard; null until the API server has told of it. */
  pod: Pod | null;
  /** The API server has it no more. */
  gone: boolean;
  /** That it is about to be taken away was told. */
  leaving: boolean;
  /** Whoever waits for what becomes of it. */
  readonly waiters: Set<() => void>;
}

export function newKnown(id: string, phase: Phase): Known {
  return { id, phase, pod: null, gone: false, leaving: false, waiters: new Set() };
}

export function containerState(pod: Pod): ContainerState {
  return pod.status.containerStatuses.find(({ name }) => name === CONTAINER)?.state ?? {};
}

/** Its process has ended, or never will begin. */
export function hasEnded(pod: Pod): boolean {
  return pod.status.phase === 'Failed' || pod.status.phase === 'Succeeded' || containerState(pod).terminated !== undefined;
}

export function isRunning(pod: Pod): boolean {
  return !hasEnded(pod) && containerState(pod).running !== undefined && pod.status.podIP !== '';
}

/** The id of a pod of ours; null where it does not carry the installation's labels as we write them. */
export function instanceIdOf(pod: Pod, { installation }: Pick<KubernetesSettings, 'installation'>): string | null {
  const { labels, name } = pod.metadata;
  const id = InstanceId.safeParse(labels[LABELS.instance]);
  return id.success && labels[LABELS.installation] === installation && name === podName(installation, id.data) ? id.data : null;
}

export function readInstance(id: string, pod: Pod, { pods }: Pick<KubernetesSettings, 'pods'>): DriverInstance {
  const { labels, uid, name, creationTimestamp } = pod.metadata;
  return {
    id,
    runtime: labels[LABELS.runtime] ?? '',
    memoryClassMib: Number(labels[LABELS.memoryClass]),
    network: labels[LABELS.network] === 'egress' ? 'egress' : 'none',
    image: null,
    sandbox: pod.spec.runtimeClassName ?? null,
    address: { kind: 'tcp', host: pod.status.podIP, port: pods.port, instance: id },
    // Its one container is never started again, so the pod's identity is the start's.
    startedAt: `${creationTimestamp ?? ''} ${uid}`,
    running: isRunning(pod),
    handle: name,
  };
}
