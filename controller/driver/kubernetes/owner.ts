/** The ConfigMap that owns all that this driver makes: with it, the cluster removes them. */
import { apiVersion, CONFIG_MAPS } from '../../kube/resources.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';
import { KubeError, type KubeApi } from '../../kube/types.ts';
import { DriverUnavailable } from '../types.ts';
import { LABELS } from './labels.ts';

export interface Owner {
  name: string;
  uid: string;
  /** We made it, so we may remove it. */
  ours: boolean;
}

const nameOf = ({ installation, owner }: KubernetesSettings): string => owner ?? `fn-${installation}-owner`;

/** Finds it, or makes it where nobody else does. Throws DriverUnavailable where it, or the namespace, is not there. */
export async function ensureOwner(api: KubeApi, settings: KubernetesSettings): Promise<Owner> {
  const { namespace, installation } = settings;
  const name = nameOf(settings);
  const ours = settings.owner === null;
  try {
    const found = await api.get(CONFIG_MAPS, namespace, name).catch(async (error: unknown) => {
      if (!(error instanceof KubeError) || error.reason !== 'NotFound' || !ours) throw error;
      const labels = { [LABELS.installation]: installation, 'app.kubernetes.io/managed-by': 'fn' };
      const data = { about: 'Owns the instances of this installation of fn: with it, they go.' };
      return api.create(CONFIG_MAPS, namespace, {
        apiVersion: apiVersion(CONFIG_MAPS),
        kind: 'ConfigMap',
        metadata: { name, labels },
        data,
      });
    });
    return { name, uid: found.metadata.uid, ours };
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    if (error.reason === 'AlreadyExists') return ensureOwner(api, settings);
    if (error.reason === 'Forbidden')
      throw new DriverUnavailable(`${error.message}. The controller needs the chart's Role in the namespace ${namespace}.`, {
        cause: error,
      });
    if (error.reason !== 'NotFound') throw error;
    const what = ours
      ? `The namespace ${namespace} is not there: kubectl create namespace ${namespace}`
      : `The ConfigMap ${name} of the namespace ${namespace}, which owns the instances, is not there: the chart makes it.`;
    throw new DriverUnavailable(what, { cause: error });
  }
}

/** Removes it where it is ours. */
export async function removeOwner(api: KubeApi, settings: KubernetesSettings): Promise<void> {
  if (settings.owner !== null) return;
  await api.delete(CONFIG_MAPS, settings.namespace, nameOf(settings)).catch((error: unknown) => {
    if (!(error instanceof KubeError) || error.reason !== 'NotFound') throw error;
  });
}
