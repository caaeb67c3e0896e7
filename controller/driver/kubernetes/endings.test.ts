import { describe, expect, it } from 'vitest';
import { Pod } from '../../kube/resources.ts';
import { judge } from './endings.ts';
import { CONTAINER } from './pod.ts';
import { refusedCreation, startState } from './starting.ts';
import { KubeError, KubeUnreachable } from '../../kube/types.ts';
import { DriverUnavailable } from '../types.ts';

const HEAP = 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory';

/** A pod whose container is in this state. */
function pod(state: Record<string, unknown>, status: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}): Pod {
  return Pod.parse({
    metadata: { name: 'p', uid: 'u', ...metadata },
    status: { phase: 'Running', podIP: '10.0.0.1', ...status, containerStatuses: [{ name: CONTAINER, state }] },
  });
}

const ended = (exitCode: number, reason: string, status?: Record<string, unknown>, metadata?: Record<string, unknown>) =>
  pod({ terminated: { exitCode, reason } }, status, metadata);

const verdict = (of: Pod, output = '') => judge(of, () => Promise.resolve(output));

describe('why an instance ended', () => {
  it.each([
    ['a code', ended(3, 'Error'), '', { cause: 'exit', detail: 'exit code 3' }],
    ['nothing left to do', ended(0, 'Completed'), '', { cause: 'exit', detail: 'exit code 0' }],
    ['a signal', ended(137, 'Error'), '', { cause: 'exit', detail: 'signal SIGKILL' }],
    ['its memory limit', ended(137, 'OOMKilled'), '', { cause: 'oom', detail: 'killed by the kernel at its memory limit' }],
    ['a child at the memory limit, and then an exit', ended(1, 'OOMKilled'), '', { cause: 'exit', detail: 'exit code 1' }],
    ['a full heap', ended(134, 'Error'), HEAP, { cause: 'oom', detail: 'the JavaScript heap was full' }],
    ['a crash', ended(134, 'Error'), 'assertion', { cause: 'exit', detail: 'signal SIGABRT' }],
    ['words of a full heap, but an exit', ended(1, 'Error'), HEAP, { cause: 'exit', detail: 'exit code 1' }],
  ])('%s', async (_, of, output, expected) => {
    expect(await verdict(of, output)).toEqual(expected);
  });

  it.each([
    ['evicted', ended(137, 'Error', { phase: 'Failed', reason: 'Evicted', message: 'low on memory' }), /evicted.*low on memory/],
    ['no room on its node', pod({}, { phase: 'Failed', reason: 'OutOfmemory' }), /no room/],
    ['its node shut down', ended(0, 'Completed', { phase: 'Failed', reason: 'Terminated' }), /shut down/],
    ['deleted by others', ended(143, 'Error', {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }), /deleted by others/],
    ['nobody knows', ended(137, 'ContainerStatusUnknown'), /does not know/],
    ['gone without a word', pod({}), /the pod is Running/],
  ])('%s: lost, and nothing that the function did', async (_, of, words) => {
    const { cause, detail } = await verdict(of);
    expect(cause).toBe('lost');
    expect(detail).toMatch(words);
  });

  it('names who disrupts it, where the cluster says so', async () => {
    const conditions = [{ type: 'DisruptionTarget', status: 'True', reason: 'EvictionByEvictionAPI', message: 'evicting' }];
    const { detail } = await verdict(ended(143, 'Error', { conditions }, { deletionTimestamp: '2026-01-01T00:00:00Z' }));
    expect(detail).toBe('its pod was taken away: EvictionByEvictionAPI: evicting');
  });
});

describe('what becomes of a new pod', () => {
  it('runs once it has an address', () => {
    expect(startState(pod({ running: {} }), '')).toEqual({ kind: 'running' });
    expect(startState(pod({ running: {} }, { podIP: '' }), '')).toMatchObject({ kind: 'waiting' });
  });

  it('waits for a place, with the scheduler’s words', () => {
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/3 nodes are available.' }];
    expect(startState(pod({}, { phase: 'Pending', conditions }), '')).toEqual({
      kind: 'waiting',
      unschedulable: '0/3 nodes are available.',
    });
  });

  it('waits while an image is pulled, and fails where that is given up, with what the registry said', () => {
    expect(startState(pod({ waiting: { reason: 'ErrImagePull', message: 'no such host' } }), '')).toMatchObject({ kind: 'waiting' });
    expect(startState(pod({ waiting: { reason: 'ImagePullBackOff', message: 'Back-off' } }), 'no such host')).toMatchObject({
      kind: 'failed',
      error: { message: expect.stringMatching(/ImagePullBackOff: no such host\. Give the nodes the image/) as string },
    });
  });

  it.each([
    ['ErrImageNeverPull', /Load the image/],
    ['CreateContainerConfigError', /refuses what the pod is made of/],
    ['CreateContainerError', /could not make the container/],
  ])('fails at once on %s', (reason, words) => {
    const state = startState(pod({ waiting: { reason, message: 'why' } }), '');
    expect(state.kind).toBe('failed');
    expect(state.kind === 'failed' && state.error.message).toMatch(words);
  });

  it('fails where it ended, and where others delete it', () => {
    expect(startState(ended(1, 'Error'), '')).toMatchObject({
      kind: 'failed',
      error: { message: 'the instance ended while it started: exit code 1' },
    });
    expect(startState(pod({}, {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }), '')).toMatchObject({ kind: 'failed' });
    expect(startState(pod({}, { phase: 'Failed', reason: 'OutOfcpu', message: 'full' }), '')).toMatchObject({
      error: { message: 'The node did not take the pod p: OutOfcpu: full.' },
    });
  });
});

describe('a creation that is refused', () => {
  it.each([
    ['Forbidden', 'exceeded quota: q', /quota of the namespace ns/],
    ['Forbidden', 'pod rejected: RuntimeClass "x" not found', /sandbox is not there/],
    ['Forbidden', 'violates PodSecurity "restricted"', /does not admit/],
    ['Forbidden', 'cannot create resource "pods"', /Role/],
    ['NotFound', 'namespaces "ns" not found', /kubectl create namespace ns/],
  ])('%s, %s: says what to do', (reason, message, words) => {
    const told = refusedCreation(new KubeError(message, reason === 'NotFound' ? 404 : 403, reason), 'ns');
    expect(told).toBeInstanceOf(DriverUnavailable);
    expect(String(told)).toMatch(words);
  });

  it('is unavailable where the server is, and a fault of ours where the pod is invalid', () => {
    expect(refusedCreation(new KubeUnreachable('away'), 'ns')).toBeInstanceOf(DriverUnavailable);
    expect(refusedCreation(new KubeError('invalid', 422, 'Invalid'), 'ns')).not.toBeInstanceOf(DriverUnavailable);
    const other = new Error('other');
    expect(refusedCreation(other, 'ns')).toBe(other);
  });
});
