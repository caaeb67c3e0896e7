/** What objects of this driver are called and labelled, for selectors and for people. */
import { shortHash } from '#kit/ids.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';

export const LABELS = {
  installation: 'fn.dev/installation',
  instance: 'fn.dev/instance',
  runtime: 'fn.dev/runtime',
  memoryClass: 'fn.dev/memory-class',
  network: 'fn.dev/network',
  state: 'fn.dev/state',
  function: 'fn.dev/function',
  namespace: 'fn.dev/namespace',
  revision: 'fn.dev/revision',
  egress: 'fn.dev/egress',
} as const;

export const ANNOTATIONS = {
  version: 'fn.dev/version',
  /** Random, of whoever claimed it: after an answer that was lost it tells whether the claim is ours. */
  claim: 'fn.dev/claim',
  /** Networks of a policy, for people. */
  networks: 'fn.dev/networks',
} as const;

/** Longest name of a pod that is also a label's value. */
const MAX_NAME = 63;

/** `fn-INSTALLATION-ID`; a long installation is cut and told apart by its hash. */
export function podName(installation: string, id: string): string {
  const name = `fn-${installation}-${id}`;
  return name.length <= MAX_NAME ? name : `fn-${installation.slice(0, 32)}-${shortHash(installation)}-${id}`;
}

/** Selects all of an installation that is an instance's. */
export const instancesOf = ({ installation }: Pick<KubernetesSettings, 'installation'>): string =>
  `${LABELS.installation}=${installation},${LABELS.instance}`;
