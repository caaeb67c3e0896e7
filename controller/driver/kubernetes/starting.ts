/** What becomes of a pod that was just created: it runs, it cannot, or it is to be waited for. */
import { DriverUnavailable } from '../types.ts';
import { KubeError, KubeUnreachable } from '../../kube/types.ts';
import type { Pod } from '../../kube/resources.ts';
import { describeExit } from '../exit.ts';
import { containerState, hasEnded, isRunning } from './instance.ts';

/** The scheduler may find a place later, as where a node is being added: it is given so long, ms. */
export const SCHEDULE_WAIT_MS = 15_000;

/** Reasons to wait that end in nothing, by what they say to do. */
const HOPELESS: Readonly<Record<string, string>> = {
  ImagePullBackOff: 'Give the nodes the image, or imagePullSecrets that may pull it.',
  ErrImageNeverPull: 'Load the image on the nodes, or set imagePullPolicy to IfNotPresent.',
  InvalidImageName: 'FN_RUNTIME_IMAGES has a name that is none.',
  ImageInspectError: 'The image on the node is broken: load or pull it again.',
  RegistryUnavailable: 'The registry cannot be reached from the node.',
  CreateContainerConfigError: 'The node refuses what the pod is made of.',
  CreateContainerError: 'The node could not make the container.',
  RunContainerError: 'The node could not start the container.',
};

export type StartState = { kind: 'running' } | { kind: 'waiting'; unschedulable: string | null } | { kind: 'failed'; error: Error };

const failed = (message: string): StartState => ({ kind: 'failed', error: new DriverUnavailable(message) });

/** `pullError`: what the node said of the image when it tried last, which says more than that it tries later. */
export function startState(pod: Pod, pullError: string): StartState {
  const { metadata, status } = pod;
  const { waiting, terminated } = containerState(pod);
  if (metadata.deletionTimestamp !== undefined) return failed(`The pod ${metadata.name} was deleted by others while it started.`);
  if (hasEnded(pod)) {
    if (terminated !== undefined) {
      const words = [terminated.reason, terminated.message.trim()].filter((text) => text !== '' && text !== 'Error').join(': ');
      return {
        kind: 'failed',
        error: new Error(`the instance ended while it started: ${describeExit(terminated.exitCode)}${words && `; ${words}`}`),
      };
    }
    return failed(
      `The node did not take the pod ${metadata.name}: ${[status.reason, status.message].filter((text) => text !== '').join(': ')}.`,
    );
  }
  if (isRunning(pod)) return { kind: 'running' };
  const advice = waiting === undefined ? undefined : HOPELESS[waiting.reason];
  if (waiting !== undefined && advice !== undefined) {
    const words = waiting.reason === 'ImagePullBackOff' && pullError !== '' ? pullError : waiting.message;
    return failed(`The pod ${metadata.name} cannot start: ${waiting.reason}${words === '' ? '' : `: ${words}`}. ${advice}`);
  }
  const place = status.conditions.find(({ type }) => type === 'PodScheduled');
  const unschedulable = place?.status === 'False' && place.reason === 'Unschedulable';
  return { kind: 'waiting', unschedulable: unschedulable ? (place.message ?? 'Unschedulable') : null };
}

/** No node takes it. */
export const noRoom = (words: string): DriverUnavailable =>
  new DriverUnavailable(
    `No node of the cluster has room for an instance: ${words} Add nodes, or lower FN_POOL and FN_MEMORY_BUDGET_MIB to what they hold.`,
  );

/** What to make of a creation that the API server refused. */
export function refusedCreation(error: unknown, namespace: string): unknown {
  if (error instanceof KubeUnreachable) return new DriverUnavailable(error.message, { cause: error });
  if (!(error instanceof KubeError)) return error;
  const { message, reason, status } = error;
  if (reason === 'Forbidden' && /exceeded quota|maximum .* usage|minimum .* usage|limited to/i.test(message))
    return new DriverUnavailable(`The quota of the namespace ${namespace} does not allow another instance: ${message}`, { cause: error });
  if (reason === 'Forbidden' && /RuntimeClass/i.test(message))
    return new DriverUnavailable(`The sandbox is not there: ${message}. Make the RuntimeClass, or take it from \`sandboxes\`.`, {
      cause: error,
    });
  if (reason === 'Forbidden' && /PodSecurity|violates/i.test(message))
    return new DriverUnavailable(`The namespace ${namespace} does not admit instances: ${message}`, { cause: error });
  if (reason === 'Forbidden')
    return new DriverUnavailable(`The controller may not create pods in ${namespace}: ${message}. It needs the chart's Role.`, {
      cause: error,
    });
  if (reason === 'NotFound')
    return new DriverUnavailable(`${message}. Is the namespace ${namespace} there? kubectl create namespace ${namespace}`, {
      cause: error,
    });
  if (status === 429 || status >= 500)
    return new DriverUnavailable(`The API server cannot take another pod now: ${message}`, { cause: error });
  return new Error(`the API server refused the pod: ${message}`, { cause: error });
}
