/**
 * A generic pod becomes a function's: one PATCH of its labels, fenced by the version that was seen. Of two controllers that want it
 * one gets it; the other is told ClaimLost, and leaves it alone.
 */
import { parseRevisionKey, type RevisionKey } from '#contract/names.ts';
import { newSecret } from '#kit/ids.ts';
import { PODS, type Pod } from '../../kube/resources.ts';
import { KubeError, KubeUnreachable, type KubeApi } from '../../kube/types.ts';
import { ClaimLost } from '../types.ts';
import { ANNOTATIONS, LABELS } from './labels.ts';

/** Others write to pods too (the kubelet says that it runs): the claim is tried with so many versions of it. */
const MAX_ATTEMPTS = 6;

export interface ClaimOptions {
  api: KubeApi;
  namespace: string;
  revision: RevisionKey;
  /** The label's value. */
  egress: string;
}

/** The pod as it is then. Throws ClaimLost; and KubeError, KubeUnreachable, after which the pod may be claimed or not. */
export async function claim(pod: Pod, { api, namespace, revision, egress }: ClaimOptions): Promise<Pod> {
  const { name, uid } = pod.metadata;
  const function_ = parseRevisionKey(revision);
  const token = newSecret();
  const labels = {
    [LABELS.state]: 'claimed',
    [LABELS.function]: function_.name,
    [LABELS.namespace]: function_.namespace,
    [LABELS.revision]: String(function_.number),
    [LABELS.egress]: egress,
  };
  const isOurs = (found: Pod) => found.metadata.annotations[ANNOTATIONS.claim] === token;
  // Its version is no fence where that claim was heard of before.
  if (pod.metadata.labels[LABELS.state] !== 'generic') throw new ClaimLost(`the pod ${name} was claimed by another controller`);
  let { resourceVersion } = pod.metadata;
  for (let attempt = 1; ; attempt += 1) {
    try {
      const metadata = { resourceVersion, labels, annotations: { [ANNOTATIONS.claim]: token } };
      return await api.patch(PODS, namespace, name, { type: 'merge', body: { metadata } });
    } catch (error) {
      const again = (error instanceof KubeError && error.reason === 'Conflict') || error instanceof KubeUnreachable;
      if (!again || attempt >= MAX_ATTEMPTS) throw error;
    }
    const found = await api.get(PODS, namespace, name);
    if (found.metadata.uid !== uid) throw new ClaimLost(`the pod ${name} is another one now`);
    // The answer to a claim that succeeded was lost.
    if (isOurs(found)) return found;
    if (found.metadata.labels[LABELS.state] !== 'generic') throw new ClaimLost(`the pod ${name} was claimed by another controller`);
    resourceVersion = found.metadata.resourceVersion;
  }
}
