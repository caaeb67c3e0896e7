/**
 * Why an instance ended, from what the cluster says of its pod. The kubelet's OOMKilled says that an OOM was seen in the
 * container's control group; with SIGKILL it is its own limit. What the cluster did by itself (evicted, preempted, the node
 * went away, somebody deleted it) is `lost`: nothing that the function did.
 */
import { describeExit, exitSignal, isHeapExhausted } from '../exit.ts';
import type { Pod } from '../../kube/resources.ts';
import type { Exit } from '../types.ts';
import { containerState } from './instance.ts';

/** Reasons of a pod's status that are the cluster's doing. */
const LOST: Readonly<Record<string, string>> = {
  Evicted: 'the node evicted it',
  Preempting: 'the node needed its place',
  Preempted: 'it was preempted by a pod of a higher priority',
  NodeLost: 'its node was lost',
  NodeShutdown: 'its node was shut down',
  Shutdown: 'its node was shut down',
  Terminated: 'its node was shut down',
  NodeAffinity: 'the node did not take it',
  UnexpectedAdmissionError: 'the node did not take it',
};

/** What a cluster that can (1.26) says of who disrupts a pod. */
export function disruption(pod: Pod): string | null {
  const found = pod.status.conditions.find(({ type, status }) => type === 'DisruptionTarget' && status === 'True');
  if (found === undefined) return null;
  return [found.reason, found.message].filter((text) => text).join(': ');
}

/** Cause and words for one that ended by itself. `output`: the end of what it wrote; read only where a crash makes it matter. */
export async function judge(pod: Pod, output: () => Promise<string>): Promise<Omit<Exit, 'id'>> {
  const { reason, message } = pod.status;
  const { terminated } = containerState(pod);
  const taken = LOST[reason] ?? (reason.startsWith('OutOf') ? 'the node had no room for it' : undefined);
  if (taken !== undefined) return { cause: 'lost', detail: `${taken}${message === '' ? '' : `: ${message}`}` };
  if (pod.metadata.deletionTimestamp !== undefined) return { cause: 'lost', detail: deletedBy(pod) };
  if (terminated === undefined)
    return { cause: 'lost', detail: `the pod is ${[pod.status.phase, reason, message].filter((text) => text !== '').join(': ')}` };
  const { exitCode } = terminated;
  const signal = exitSignal(exitCode);
  if (terminated.reason === 'OOMKilled' && signal === 'SIGKILL')
    return { cause: 'oom', detail: 'killed by the kernel at its memory limit' };
  // The runtime below the kubelet lost sight of it: its code says nothing.
  if (terminated.reason === 'ContainerStatusUnknown') return { cause: 'lost', detail: 'the node does not know what became of it' };
  if (signal !== null && signal !== 'SIGKILL' && signal !== 'SIGTERM' && isHeapExhausted(await output(), exitCode))
    return { cause: 'oom', detail: 'the JavaScript heap was full' };
  return { cause: 'exit', detail: describeExit(exitCode) };
}

/** Words for a pod that others have deleted, or are deleting. */
export function deletedBy(pod: Pod): string {
  const why = disruption(pod);
  return why === null ? 'its pod was deleted by others' : `its pod was taken away: ${why}`;
}
