/** Whether the API server lets us do what instances need, asked before anything is begun. */
import { ACCESS_REVIEWS, apiVersion } from '../../kube/resources.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';
import { KubeError, KubeUnreachable, type KubeApi } from '../../kube/types.ts';
import { DriverUnavailable } from '../types.ts';

interface Need {
  group: string;
  resource: string;
  subresource?: string;
  /** Only the object of this name: a Role that names it says no to the question without. */
  name?: string;
  verbs: string[];
}

/** The Role of the chart has these. `events` too, for words about pods that do not start; they are not asked for. */
export function needs({ networkPolicies, owner }: KubernetesSettings, canResize: boolean): Need[] {
  return [
    { group: '', resource: 'pods', verbs: ['get', 'list', 'watch', 'create', 'patch', 'delete'] },
    { group: '', resource: 'pods', subresource: 'log', verbs: ['get'] },
    ...(canResize ? [{ group: '', resource: 'pods', subresource: 'resize', verbs: ['patch'] }] : []),
    owner === null
      ? { group: '', resource: 'configmaps', verbs: ['get', 'create', 'delete'] }
      : { group: '', resource: 'configmaps', name: owner, verbs: ['get'] },
    ...(networkPolicies === 'enforced'
      ? [{ group: 'networking.k8s.io', resource: 'networkpolicies', verbs: ['list', 'create', 'delete'] }]
      : []),
  ];
}

/** Throws DriverUnavailable with what is missing. */
export async function assertAllowed(api: KubeApi, settings: KubernetesSettings, canResize: boolean): Promise<void> {
  const { namespace } = settings;
  const asked = needs(settings, canResize).flatMap(({ verbs, ...need }) => verbs.map((verb) => ({ ...need, verb })));
  const answers = await Promise.all(
    asked.map(({ group, resource, subresource, name, verb }) =>
      api.create(ACCESS_REVIEWS, '', {
        apiVersion: apiVersion(ACCESS_REVIEWS),
        kind: ACCESS_REVIEWS.kind,
        metadata: {},
        // What is undefined is not sent.
        spec: { resourceAttributes: { namespace, group, resource, subresource, name, verb } },
      }),
    ),
  );
  const missing = asked.filter((_, index) => answers[index]?.status.allowed !== true);
  if (missing.length === 0) return;
  const words = missing.map(
    ({ verb, resource, subresource, name }) =>
      `${verb} ${resource}${subresource === undefined ? '' : `/${subresource}`}${name === undefined ? '' : ` ${name}`}`,
  );
  throw new DriverUnavailable(
    `The controller may not do this in the namespace ${namespace}: ${words.join(', ')}. Give it a Role with these verbs (the chart's has them), and a RoleBinding to its service account.`,
  );
}

/** What a start fails by is told as what it is: the cluster's word, for people. */
export function unavailable(error: unknown): unknown {
  if (error instanceof KubeUnreachable)
    return new DriverUnavailable(`${error.message}. Is it up, and does the kubeconfig name it?`, { cause: error });
  if (error instanceof KubeError) return new DriverUnavailable(`The Kubernetes API server refused: ${error.message}`, { cause: error });
  return error;
}
