import { isFresh, minOf, type Instance, type World } from './world.ts';

/** What is to be freed. An instance that would free nothing of it is not worth losing. */
export interface Shortage {
  memoryMib: number;
  cpu: number;
}

/**
 * The instance that is cheapest to lose: without a lease, with nothing known in flight, nobody
 * waiting for it, not counted by `min` or a deployment. A generic one first (a refill replaces it),
 * then the one idle longest; of those that `among` lets pass. null: none may go.
 */
export function cheapestToLose(
  world: World,
  except: ReadonlySet<string>,
  shortage: Shortage,
  now: number,
  among: (instance: Instance) => boolean = () => true,
): Instance | null {
  let best: Instance | null = null;
  let bestRank = Infinity;
  for (const instance of world.instances.values()) {
    if (except.has(instance.id) || !among(instance)) continue;
    const helps = (shortage.memoryMib > 0 && instance.memoryMib > 0) || (shortage.cpu > 0 && instance.cpu > 0);
    if (!helps) continue;
    const rank = rankOf(world, instance, except, now);
    if (rank < bestRank) {
      best = instance;
      bestRank = rank;
    }
  }
  return best;
}

function rankOf(world: World, instance: Instance, except: ReadonlySet<string>, now: number): number {
  switch (instance.state.kind) {
    case 'generic':
      return -1;
    case 'ready':
    case 'frozen': {
      // `notBefore`: something was in flight a moment ago, or a gateway may still hold it.
      if (instance.leases.size > 0 || instance.state.idleSince === null || instance.notBefore > now) return Infinity;
      const revision = world.revisions.get(instance.state.revision);
      if (!revision) return 0;
      for (const demand of revision.demand.values()) if (demand.waiting > 0) return Infinity;
      const kept = Math.max(minOf(revision), revision.floor);
      if (kept === 0 || instance.stale) return instance.state.idleSince;
      let live = 0;
      for (const other of world.instancesOf(revision.key)) if (isFresh(other) && !except.has(other.id)) live += 1;
      return live <= kept ? Infinity : instance.state.idleSince;
    }
    case 'creating':
    case 'specialising':
    case 'settling':
    case 'thawing':
    case 'draining':
      return Infinity;
  }
}
