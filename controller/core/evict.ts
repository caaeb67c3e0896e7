import { isLive, type Instance, type World } from './world.ts';

/**
 * The instance that is cheapest to lose: without a lease, with nothing known in flight, not counted
 * by `min` or a deployment. A generic one first (a refill replaces it), then the one idle longest.
 * null: none may go.
 */
export function cheapestToLose(world: World, except: ReadonlySet<string>): Instance | null {
  let best: Instance | null = null;
  let bestRank = Infinity;
  for (const instance of world.instances.values()) {
    if (except.has(instance.id)) continue;
    const rank = rankOf(world, instance, except);
    if (rank < bestRank) {
      best = instance;
      bestRank = rank;
    }
  }
  return best;
}

function rankOf(world: World, instance: Instance, except: ReadonlySet<string>): number {
  switch (instance.state.kind) {
    case 'generic':
      return -1;
    case 'ready':
    case 'frozen': {
      if (instance.leases.size > 0 || instance.state.idleSince === null || instance.busySince !== null) return Infinity;
      const revision = world.revisions.get(instance.state.revision);
      if (!revision) return 0;
      const kept = Math.max(revision.routed ? revision.revision.settings.min : 0, revision.floor);
      const live = [...world.instancesOf(revision.key)].filter((other) => isLive(other) && !except.has(other.id)).length;
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
