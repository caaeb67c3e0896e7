/** What instances can be here, and what is missing. */
import type { KubernetesSettings } from '../../kube/settings.ts';
import type { DriverFeatures } from '../types.ts';
import type { Resizing } from './resize.ts';

export const NOT_STARTED: DriverFeatures = { freeze: false, limits: false, parentCgroup: false, egress: 'none', sandboxes: [], notes: [] };

const EGRESS = { enforced: 'filtered', unfiltered: 'unfiltered', none: 'none' } as const;

export function featuresOf(
  settings: KubernetesSettings,
  { major, minor }: { major: number; minor: number },
  resizing: Resizing,
): DriverFeatures {
  const notes: string[] = [];
  if (!resizing.cpu)
    notes.push(
      `Kubernetes ${major}.${minor} cannot change the limits of a pod that runs (1.33 can): an instance may use the memory of its class, and ${settings.pods.cpuLimit ?? 'all'} CPUs.`,
    );
  else if (!resizing.memory)
    notes.push(
      `Kubernetes ${major}.${minor} cannot take memory from a pod that runs (1.34 can): an instance may use the memory of its class.`,
    );
  if (settings.networkPolicies === 'unfiltered')
    notes.push('Functions may dial anything that pods can: the cluster does not enforce NetworkPolicies (networkPolicies: unfiltered).');
  if (settings.networkPolicies === 'none')
    notes.push(
      'Functions with egress are refused, and nothing keeps the others from dialling: the cluster does not enforce NetworkPolicies, or nobody said that it does (networkPolicies: none). Where it does, set `enforced`.',
    );
  return {
    freeze: false,
    limits: true,
    parentCgroup: false,
    egress: EGRESS[settings.networkPolicies],
    sandboxes: settings.sandboxes,
    notes,
  };
}
