import { hungry, type Action } from './plan.ts';
import { poolText } from './pool.ts';
import type { RevisionState, World } from './world.ts';

/**
 * Whether an instance for this revision is on its way, so that whoever waits is served without
 * taking from anybody. `needed`: the plan wants one; `evicting`: room for one is being made.
 */
export function isGrowing(world: World, revision: RevisionState, needed: boolean, evicting: boolean): boolean {
  for (const { state } of world.instancesOf(revision.key)) {
    if (state.kind === 'specialising' || state.kind === 'settling' || state.kind === 'thawing') return true;
  }
  if (!needed) return false;
  if (evicting) return true;
  return world.creating.has(poolText(revision));
}

/**
 * [8] When no instance can be added and a gateway gets nothing, others give up what is over their
 * fair share. Returns at most one revoke per gateway and call.
 */
export function planRebalance(world: World, revision: RevisionState): Action[] {
  const waiting = hungry(world, revision).filter((gateway) => world.grantedSlots(revision.key, gateway.gateway) === 0);
  if (waiting.length === 0) return [];
  const leases = [...world.instancesOf(revision.key)].flatMap((instance) => [...instance.leases.values()]);
  // A share on its way back will serve them.
  if (leases.some((lease) => lease.state === 'revoking')) return [];
  const total = leases.reduce((sum, lease) => sum + lease.slots, 0);
  const holders = new Set(leases.map((lease) => lease.gateway));
  const fair = Math.max(1, Math.floor(total / (holders.size + waiting.length)));
  const actions: Action[] = [];
  for (const gateway of holders) {
    const own = leases.filter((lease) => lease.gateway === gateway).sort((a, b) => b.slots - a.slots);
    const largest = own[0]!;
    const over = own.reduce((sum, lease) => sum + lease.slots, 0) - fair;
    if (over > 0) actions.push({ do: 'revoke', lease: largest.id, keeps: Math.max(0, largest.slots - over) });
  }
  // All at one slot each: the one that has the most gives its turn to whoever waits.
  const first = leases[0];
  if (actions.length === 0 && first) actions.push({ do: 'revoke', lease: first.id, keeps: 0 });
  return actions;
}
