/**
 * Instances that others take away soon: a node is drained, a pod evicted. Those in use serve on until as many fresh
 * ones are ready, as where a secret changed; where none can be had in time, what they hold is drained.
 */
import { revisionOf } from '../core/world.ts';
import type { Leaving } from '../driver/types.ts';
import type { EngineContext, GoneCause } from './context.ts';
import type { Lifecycle } from './lifecycle.ts';

/** Of the time that is left, so much is for fresh instances to come up; the rest is for what is in flight. */
const REPLACING_SHARE = 0.5;

export interface LeavingParts {
  context: EngineContext;
  lifecycle: Lifecycle;
  /** Has stale instances of all functions of a namespace replaced. */
  replaceStale: (namespace: string) => void;
  drainThenKill: (id: string, cause: GoneCause, detail: string) => void;
}

export function onLeaving({ context, lifecycle, replaceStale, drainThenKill }: LeavingParts, { id, why, graceMs }: Leaving): void {
  const { world, clock, log } = context;
  const instance = world.instances.get(id);
  if (instance === undefined || instance.state.kind === 'draining') return;
  log.info({ instance: id, why, graceMs }, 'an instance is about to be taken away');
  const key = revisionOf(instance);
  const revision = key === null ? undefined : world.revisions.get(key);
  if (revision === undefined || instance.leases.size === 0) {
    lifecycle.kill(instance, 'stopped', why);
    return;
  }
  instance.stale = true;
  replaceStale(revision.revision.namespace);
  clock.after(graceMs * REPLACING_SHARE, () => drainThenKill(id, 'stopped', why));
}
