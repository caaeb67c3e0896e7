/** Decisions about instances that nobody uses, as pure as those of plan.ts: how long each is kept, when it is frozen, when it goes. */
import { nextPrewarmAt, staysUntil, type IdleInstance } from './keep-alive/use.ts';
import type { Action } from './plan.ts';
import type { CoreSettings } from './settings.ts';
import { idleSince, isFresh, isLive, minOf, type Instance, type RevisionState, type World } from './world.ts';

/**
 * What is to be frozen or stopped of a revision: [16] `min` and [17]. An old revision's instances go
 * as soon as no gateway has a share. Whoever carries this out asks the instance first whether
 * anything is still in flight in it.
 */
export function planIdle(
  world: World,
  revision: RevisionState,
  settings: CoreSettings,
  now: number,
): { actions: Action[]; askAgainAt: number | null } {
  const actions: Action[] = [];
  let askAgainAt: number | null = null;
  const at = (time: number) => (askAgainAt = Math.min(askAgainAt ?? Infinity, time));
  const exempt = minOf(revision);
  const { idle, spare: excess } = idleOf(world, revision);
  let spare = excess;
  for (const instance of idle) {
    const since = idleSince(instance);
    if (instance.stale) {
      if (instance.notBefore <= now) actions.push({ do: 'stop', instance: instance.id, reason: 'stale' });
      else at(instance.notBefore);
      continue;
    }
    if (spare > 0) {
      const stopAt = stopTime(revision, instance, instance === idle.at(-1), settings, now);
      if (stopAt <= now) {
        actions.push({ do: 'stop', instance: instance.id, reason: revision.routed ? 'keep-alive' : 'unrouted' });
        spare -= 1;
        continue;
      }
      at(stopAt);
    }
    if (settings.freezeAfterMs === null || exempt > 0 || instance.state.kind !== 'ready' || revision.floor > 0) continue;
    const freezeAt = Math.max(since + settings.freezeAfterMs, instance.notBefore);
    if (freezeAt <= now) actions.push({ do: 'freeze', instance: instance.id });
    else at(freezeAt);
  }
  const prewarmAt = nextPrewarmAt(revision, now);
  if (prewarmAt !== null) at(prewarmAt);
  return { actions, askAgainAt };
}

/** What nobody uses of a revision, the longest idle first, and how many of it may go: `min` and a deployment count on the others. */
function idleOf(world: World, revision: RevisionState): { idle: Instance[]; spare: number } {
  const instances = [...world.instancesOf(revision.key)].filter(isLive);
  // One that is about to be stopped stays for nobody: with it counted, the next to go would be one that has to stay.
  const staying = ({ state }: Instance) => state.kind !== 'settling' || state.goal !== 'stop';
  const fresh = instances.filter((instance) => isFresh(instance) && staying(instance)).length;
  const idle = instances
    .filter((instance) => (instance.state.kind === 'ready' && instance.state.idleSince !== null) || instance.state.kind === 'frozen')
    .sort((a, b) => idleSince(a) - idleSince(b));
  return { idle, spare: fresh - Math.max(minOf(revision), revision.floor) };
}

function stopTime(revision: RevisionState, instance: Instance, last: boolean, settings: CoreSettings, now: number): number {
  const view = { idleSince: idleSince(instance), last, unasked: instance.prewarmed && !instance.served };
  return Math.max(keptUntil(revision, view, settings, now), instance.notBefore);
}

/** When each idle instance of a revision goes if nobody comes, monotonic ms, for people to see; null: never, `min` or a deployment keeps it. */
export function idleStops(world: World, revision: RevisionState, settings: CoreSettings, now: number): Map<string, number | null> {
  const { idle, spare } = idleOf(world, revision);
  const stopOf = (instance: Instance) => stopTime(revision, instance, instance === idle.at(-1), settings, now);
  const fresh = idle.filter((instance) => !instance.stale);
  return new Map(fresh.map((instance, index) => [instance.id, index < spare ? stopOf(instance) : null]));
}

/** How long an idle instance is kept: for the keep-alive with traffic, a moment without, not at all where nothing leads to it. */
function keptUntil(revision: RevisionState, idle: IdleInstance, settings: CoreSettings, now: number): number {
  const since = idle.idleSince;
  if (!revision.routed) return since;
  const { keepAliveSeconds } = revision.revision.settings;
  const until = keepAliveSeconds === 'auto' ? staysUntil(revision, idle, now) : since + keepAliveSeconds * 1_000;
  if (revision.percent > 0) return until;
  const keepMs = Math.max(0, until - since);
  const grace = revision.lostShareAt === null ? 0 : revision.lostShareAt + Math.min(keepMs, settings.rollbackGraceMs);
  return Math.max(since + Math.min(keepMs, settings.previewKeepAliveMs), grace);
}
