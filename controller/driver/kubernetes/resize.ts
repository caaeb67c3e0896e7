/**
 * The exact limits of an instance, where the cluster can change those of a pod that runs (1.33; less memory than it began with: 1.34).
 * It is done beside the cold start, not on its path: until then, and where it cannot be done, the class's limits hold.
 */
import { backoffMs } from '#kit/backoff.ts';
import { sleep } from '#kit/clock.ts';
import { PODS } from '../../kube/resources.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';
import { KubeError, type KubeApi } from '../../kube/types.ts';
import { CONTAINER, cores, mib } from './pod.ts';

const MIN_CPU = { major: 1, minor: 33 } as const;
const MIN_MEMORY = { major: 1, minor: 34 } as const;
const ATTEMPTS = 4;
const AGAIN = { baseMs: 250, maxMs: 4_000 } as const;

export interface Resizing {
  cpu: boolean;
  memory: boolean;
}

type Version = { major: number; minor: number };
const reaches = (version: Version, { major, minor }: Version) =>
  version.major > major || (version.major === major && version.minor >= minor);

export const resizingOf = (version: Version): Resizing => ({ cpu: reaches(version, MIN_CPU), memory: reaches(version, MIN_MEMORY) });

export interface Limits {
  memoryClassMib: number;
  memoryMib: number;
  cpu: number;
}

/** What the container is to have, as a strategic patch; null where it has it already. */
export function resizePatch(
  { cpu, memory }: Resizing,
  { pods }: Pick<KubernetesSettings, 'pods'>,
  limits: Limits,
): Record<string, unknown> | null {
  const changed: { limits: Record<string, string>; requests: Record<string, string> } = { limits: {}, requests: {} };
  if (cpu && limits.cpu !== pods.cpuLimit) {
    changed.limits.cpu = cores(limits.cpu);
    // A request above its limit is refused.
    const asked = Math.min(pods.cpuRequest, pods.cpuLimit ?? Infinity);
    if (limits.cpu < asked) changed.requests.cpu = cores(limits.cpu);
  }
  if (memory && limits.memoryMib !== limits.memoryClassMib) {
    changed.limits.memory = mib(limits.memoryMib);
    changed.requests.memory = mib(limits.memoryMib * pods.memoryRequestRatio);
  }
  if (Object.keys(changed.limits).length === 0) return null;
  return { spec: { containers: [{ name: CONTAINER, resources: changed }] } };
}

/** Throws KubeError, KubeUnreachable, the signal's reason. A pod that is gone needs no limits. */
export async function resize(
  api: KubeApi,
  namespace: string,
  name: string,
  body: Record<string, unknown>,
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await api.patch(PODS, namespace, name, { type: 'strategic', body }, 'resize');
      return;
    } catch (error) {
      if (error instanceof KubeError && error.reason === 'NotFound') return;
      const refused = error instanceof KubeError && error.status < 500 && error.reason !== 'Conflict' && error.reason !== 'TooManyRequests';
      if (refused || attempt >= ATTEMPTS) throw error;
    }
    await sleep(backoffMs(attempt, AGAIN), signal);
  }
}
