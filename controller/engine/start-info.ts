/** What whoever waited for an instance is told: how it came about, and why they waited; or why there is none. */
import type { ColdReason, StartInfo } from '#contract/call.ts';
import { problem, type Problem } from '#contract/errors.ts';
import { revisionLabel } from '#contract/names.ts';
import { isLive, type Instance, type RevisionState, type World } from '../core/world.ts';
import type { StartFailure } from './context.ts';

/** How this grant came about, from the view of whoever waited longest. Asked before the lease is recorded. */
export function startInfo(world: World, instance: Instance, revision: RevisionState, gateway: string): StartInfo {
  const since = revision.demand.get(gateway)?.since ?? null;
  const readyAt = instance.specialisedAt;
  const prewarmed = instance.prewarmed && !instance.served ? { prewarmed: true } : {};
  if (since === null || readyAt === null || instance.genericAt === null || readyAt <= since)
    return { kind: 'warm', startMs: 0, initMs: 0, ...prewarmed };
  const codeCache = instance.codeCache === undefined ? {} : { codeCache: instance.codeCache };
  const initMs = Math.min(instance.initMs, readyAt - since);
  const startMs = Math.max(0, instance.genericAt - since);
  return {
    kind: startMs > 0 ? 'full' : 'pooled',
    startMs,
    initMs,
    ...instance.initSteps,
    reason: coldReason(world, instance, revision, since),
    ...codeCache,
    ...prewarmed,
  };
}

/** Why there was no slot for whoever has waited since then. */
function coldReason(world: World, instance: Instance, revision: RevisionState, since: number): ColdReason {
  for (const other of world.instancesOf(revision.key)) {
    if (other === instance || !isLive(other)) continue;
    // One that was adopted was there before anybody waited here.
    if (other.leases.size > 0 || other.specialisedAt === null || other.specialisedAt < since) return other.stale ? 'replaced' : 'burst';
  }
  if (revision.lastDied) return 'replaced';
  return revision.granted ? 'scaled-to-zero' : 'new-revision';
}

/** Why waiters fail. */
export function startProblem(revision: RevisionState, failure: StartFailure): Problem {
  // What broke on the platform's side names files of this host and secrets: that is for the function's log.
  const why = failure.code === 'start-failed' ? 'no instance of it could be started; its log says why' : failure.detail;
  const detail = `${revisionLabel(revision.key)}: ${why}`;
  // The stack is for the owner, who sees it on deploy and in the logs; callers get the message.
  const error = failure.functionError
    ? { name: failure.functionError.name, message: failure.functionError.message, at: failure.functionError.at }
    : undefined;
  return problem(failure.code, detail, { functionError: error });
}
