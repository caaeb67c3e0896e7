/**
 * The decisions: pure functions of (world, settings, now) that return actions. They change nothing;
 * whoever carries an action out changes the world first and asks again.
 */
import { Victims } from './evict.ts';
import { isPrewarmTime } from './keep-alive/use.ts';
import { poolOf, poolTargets, poolText, type PoolTargets } from './pool.ts';
import { Quotas, Room } from './room.ts';
import type { CoreSettings } from './settings.ts';
import { idleSince, isLive, minOf, poolKeyText, type Instance, type PoolKey, type RevisionState, type World } from './world.ts';

export type StopReason = 'keep-alive' | 'unrouted' | 'evicted' | 'excess' | 'stale';

export type Action =
  | { do: 'grant'; instance: string; gateway: string; slots: number }
  | { do: 'thaw'; instance: string }
  /** `prewarm`: nobody waits for it; it is expected that somebody will. */
  | { do: 'claim'; instance: string; revision: string; prewarm?: true }
  | { do: 'freeze'; instance: string }
  | { do: 'stop'; instance: string; reason: StopReason }
  | { do: 'revoke'; lease: string; keeps: number }
  | { do: 'create'; pool: PoolKey };

/** Gateways with unmet demand, those who wait longest first. */
export function hungry(world: World, revision: RevisionState): { gateway: string; unmet: number; since: number }[] {
  const list = [];
  for (const [gateway, demand] of revision.demand) {
    const unmet = world.unmet(revision, gateway);
    if (unmet > 0) list.push({ gateway, unmet, since: demand.since ?? 0 });
  }
  return list.sort((a, b) => a.since - b.since);
}

/**
 * Grants of free slots of ready instances [6]. With one gateway it gets all of an instance's free
 * slots, so that a burst needs one message; with more, each gets what it waits for or its fair share.
 * Instances in use come first, so that the others stay idle and can be frozen and stopped.
 */
export function planGrants(world: World, revision: RevisionState): Action[] {
  const waiting = hungry(world, revision);
  if (waiting.length === 0) return [];
  const actions: Action[] = [];
  const open = [...world.instancesOf(revision.key)]
    .filter((instance) => instance.state.kind === 'ready' && !instance.suspect && !instance.stale && world.freeSlots(instance) > 0)
    .sort((a, b) => b.leases.size - a.leases.size || idleSince(b) - idleSince(a));
  for (const instance of open) {
    let free = world.freeSlots(instance);
    const share = Math.max(1, Math.floor(free / Math.max(1, revision.demand.size)));
    for (const gateway of waiting) {
      if (free === 0) break;
      if (gateway.unmet <= 0) continue;
      const slots = Math.min(free, Math.max(gateway.unmet, share));
      actions.push({ do: 'grant', instance: instance.id, gateway: gateway.gateway, slots });
      gateway.unmet -= slots;
      free -= slots;
    }
  }
  return actions;
}

export interface StartNeed {
  /** Frozen instances to thaw. */
  thaw: string[];
  /** Further instances to be specialised. */
  claims: number;
  /** Nobody asks for them: they are expected to be used soon. */
  prewarm: boolean;
  /** Monotonic ms at which the question should be asked again; null: only when something changes. */
  askAgainAt: number | null;
}

/**
 * How many more instances a revision needs [5]: starts = min(cap, ceil(waiting ÷ slots) − booting),
 * and only if the expected wait for a slot is longer than a start. `min` and a deployment's floor count too.
 * After a failed start nothing is claimed until the pause is over, and then one at a time until one
 * is ready; what is frozen is thawed all the same.
 *
 * Worked: 120 waiting, 50 slots, one instance booting → ceil(120 ÷ 50) − 1 = 2 more.
 * One waiting, a slot free every 8 ms, a pooled start of 15 ms → wait; asked again after 15 ms.
 */
export function planStarts(world: World, revision: RevisionState, settings: CoreSettings, now: number, pooled: number): StartNeed {
  const need: StartNeed = { thaw: [], claims: 0, prewarm: false, askAgainAt: null };
  const slots = revision.slots ?? 1;
  let booting = 0;
  let live = 0;
  let inUse = 0;
  let specialising = 0;
  const frozen: Instance[] = [];
  for (const instance of world.instancesOf(revision.key)) {
    if (!isLive(instance)) continue;
    // What is stale serves what it has; it neither counts against `max` nor as one that is to come.
    if (instance.stale) {
      if (instance.leases.size > 0) inUse += slots;
      continue;
    }
    live += 1;
    if (instance.state.kind === 'specialising') specialising += 1;
    if (instance.state.kind !== 'ready' && instance.state.kind !== 'frozen') booting += 1;
    else if (instance.state.kind === 'frozen') frozen.push(instance);
    if (instance.leases.size > 0) inUse += slots;
  }
  const waiting = hungry(world, revision);
  let unmet = waiting.reduce((sum, gateway) => sum + gateway.unmet, 0);
  // What free slots will serve is granted before it comes to starts.
  for (const instance of world.instancesOf(revision.key)) {
    if (instance.state.kind === 'ready' && !instance.suspect && !instance.stale) unmet -= world.freeSlots(instance);
  }
  let wanted = Math.max(0, Math.ceil(Math.max(0, unmet) / slots) - booting);
  if (wanted > 0 && inUse > 0) {
    const serviceMs = Math.max(...[...revision.demand.values()].map((demand) => demand.serviceMs));
    const startMs = frozen.length > 0 ? 1 : pooled > 0 ? settings.pooledStartMs : settings.fullStartMs;
    const waitedSince = Math.min(...waiting.map((gateway) => gateway.since));
    const expectedMs = (unmet / inUse) * serviceMs;
    if (serviceMs > 0 && expectedMs < startMs && now - waitedSince < startMs) {
      need.askAgainAt = waitedSince + startMs;
      wanted = 0;
    }
  }
  frozen.sort((a, b) => idleSince(b) - idleSince(a));
  while (wanted > 0 && frozen.length > 0) {
    need.thaw.push(frozen.shift()!.id);
    wanted -= 1;
  }
  const floor = Math.max(minOf(revision), revision.floor);
  const asked = Math.max(wanted, floor - live);
  // Of what was frozen or is on its way one is enough: nothing is brought up beside it.
  need.prewarm = asked <= 0 && live === 0 && isPrewarmTime(revision, now);
  need.claims = Math.max(0, Math.min(need.prewarm ? 1 : asked, revision.revision.settings.max - live));
  if (need.claims > 0 && now < revision.notBefore) return { ...need, claims: 0, askAgainAt: revision.notBefore };
  if (revision.failures > 0) need.claims = Math.min(need.claims, specialising > 0 ? 0 : 1);
  return need;
}

export interface ClaimNeed {
  revision: RevisionState;
  claims: number;
  /** For the order among revisions: when the first of them gives up. */
  deadline: number;
  /** Nobody waits: only what is free anyway is taken, and nothing is stopped for it. */
  prewarm?: boolean;
}

/** Generic instances of one pool, the oldest first, but for those that this plan has taken. */
class Free {
  readonly #instances: Iterator<Instance>;
  readonly #taken: ReadonlySet<string>;
  #first: Instance | null = null;

  constructor(instances: Iterable<Instance>, taken: ReadonlySet<string>) {
    this.#instances = instances[Symbol.iterator]();
    this.#taken = taken;
  }

  /** The same until it is taken. */
  get first(): Instance | null {
    while (this.#first === null || this.#taken.has(this.#first.id)) {
      const next = this.#instances.next();
      if (next.done) return null;
      this.#first = next.value;
    }
    return this.#first;
  }
}

/**
 * Host-wide: hands generic instances to the revisions that need them, creates what is missing,
 * refills pools when all is quiet, and makes room by eviction when the budget is used up.
 * `targets`: what pools should hold, where that is known already.
 */
export function planHost(
  world: World,
  needs: Iterable<ClaimNeed>,
  settings: CoreSettings,
  now: number,
  lastClaimAt: number,
  targets: PoolTargets = poolTargets(world, settings),
): { actions: Action[]; askAgainAt: number | null; overQuota: RevisionState[] } {
  const actions: Action[] = [];
  let creates = 0;
  for (const instances of world.creating.values()) creates += instances.size;
  const free = new Map<string, Free>();
  const taken = new Set<string>();
  const victims = new Victims(world, now, { memoryMib: settings.memoryBudgetMib, cpu: settings.cpuBudget });
  const room = new Room(world, settings, taken, victims);
  const quotas = new Quotas(world, settings.quotas, taken, victims);
  const overQuota: RevisionState[] = [];
  const missing = new Map<string, { pool: PoolKey; count: number }>();
  const freeOf = (key: string): Free => {
    let left = free.get(key);
    if (!left) free.set(key, (left = new Free(world.generic.get(key) ?? [], taken)));
    return left;
  };
  const all = [...needs].sort((a, b) => a.deadline - b.deadline);
  for (const { revision, claims, prewarm } of all) {
    if (prewarm) continue;
    const pool = poolOf(revision);
    const key = poolText(revision);
    const left = freeOf(key);
    for (let n = 0; n < claims; n += 1) {
      const verdict = quotas.take(revision, actions);
      if (verdict === 'over') overQuota.push(revision);
      if (verdict !== 'fits') break;
      const instance = left.first;
      if (instance === null) {
        const entry = missing.get(key) ?? { pool, count: 0 };
        entry.count += 1;
        missing.set(key, entry);
        continue;
      }
      if (!room.take(0, revision.revision.settings.cpu, actions)) break;
      taken.add(instance.id);
      actions.push({ do: 'claim', instance: instance.id, revision: revision.key });
    }
  }
  let crowded = false;
  for (const [key, { pool, count }] of missing) {
    for (let n = world.creating.get(key)?.size ?? 0; n < count && creates < settings.maxCreates; n += 1) {
      if (!room.take(pool.memoryClassMib, 0, actions)) {
        crowded = true;
        break;
      }
      actions.push({ do: 'create', pool });
      creates += 1;
    }
  }
  if (missing.size === 0) creates += planPrewarms(world, all, settings, { creates, room, quotas, taken, freeOf, targets }, actions);
  const refill = planPools(world, settings, now, { targets, taken, missing, crowded, creates, room, lastClaimAt });
  return { actions: [...actions, ...refill.actions], askAgainAt: refill.askAgainAt, overQuota };
}

interface PrewarmView {
  creates: number;
  room: Room;
  quotas: Quotas;
  taken: Set<string>;
  freeOf: (pool: string) => Free;
  targets: PoolTargets;
}

/** Instances for those who are expected: of what is free when nobody waits, and nothing is stopped for them. Returns how many are created. */
function planPrewarms(world: World, needs: readonly ClaimNeed[], settings: CoreSettings, view: PrewarmView, actions: Action[]): number {
  const { room, quotas, taken } = view;
  let created = 0;
  // On a full host an idle instance goes for the only one of a pool (planPools), and it may be one that is expected to be used: whoever
  // takes the last would stop another for its own sake, which would then do the same.
  const mayTake = (key: string, memoryClassMib: number) => {
    if (!view.targets.has(key) || world.creating.has(key) || room.fits(memoryClassMib, 0)) return true;
    let left = 0;
    for (const { id } of world.generic.get(key) ?? []) if (!taken.has(id)) left += 1;
    return left > 1;
  };
  for (const { revision, prewarm } of needs) {
    if (!prewarm || !quotas.fits(revision)) continue;
    const key = poolText(revision);
    const instance = view.freeOf(key).first;
    if (instance === null) {
      const pool = poolOf(revision);
      const tooMany = world.creating.has(key) || view.creates + created >= settings.maxCreates;
      if (tooMany || !room.fits(pool.memoryClassMib, 0)) continue;
      room.count(pool.memoryClassMib, 0);
      actions.push({ do: 'create', pool });
      created += 1;
    } else if (room.fits(0, revision.revision.settings.cpu) && mayTake(key, poolOf(revision).memoryClassMib)) {
      room.count(0, revision.revision.settings.cpu);
      quotas.count(revision);
      taken.add(instance.id);
      actions.push({ do: 'claim', instance: instance.id, revision: revision.key, prewarm: true });
    }
  }
  return created;
}

const isOfFunction = ({ state }: Instance): boolean => state.kind !== 'generic';

interface PoolView {
  targets: PoolTargets;
  taken: ReadonlySet<string>;
  missing: ReadonlyMap<string, { pool: PoolKey; count: number }>;
  /** Somebody waits for room: what becomes free is not a pool's. */
  crowded: boolean;
  creates: number;
  room: Room;
  lastClaimAt: number;
}

/** Refills, and stops of generic instances that no pool needs any more. */
function planPools(world: World, settings: CoreSettings, now: number, view: PoolView): { actions: Action[]; askAgainAt: number | null } {
  const { targets, taken, missing, room } = view;
  const actions: Action[] = [];
  let askAgainAt: number | null = null;
  const takenOf = new Map<string, number>();
  for (const id of taken) {
    const instance = world.instances.get(id);
    if (instance?.state.kind !== 'generic') continue;
    const key = poolKeyText(instance);
    takenOf.set(key, (takenOf.get(key) ?? 0) + 1);
  }
  const left = (key: string) => (world.generic.get(key)?.size ?? 0) - (takenOf.get(key) ?? 0);
  const quietAt = view.lastClaimAt + settings.refillDelayMs;
  let creates = view.creates;
  for (const [key, { pool, count }] of targets) {
    // Of those that are coming, so many are for whoever found the pool empty; what this plan creates for them is not among them.
    const spoken = missing.get(key)?.count ?? 0;
    let short = count - left(key) - Math.max(0, (world.creating.get(key)?.size ?? 0) - spoken);
    if (short <= 0 || view.crowded || (missing.size > 0 && settings.refillMaxDelayMs === Infinity)) continue;
    if (quietAt > now) {
      askAgainAt = quietAt;
      continue;
    }
    // On a full host an idle instance goes for the only one of a pool, as it would for the next cold start, which would else
    // wait for its end and for a container as well. Nothing goes for more; nor another pool's, or they would take turns.
    const empty = left(key) === 0 && !world.creating.has(key);
    if (empty && creates < settings.maxCreates && !room.fits(pool.memoryClassMib, 0))
      room.take(pool.memoryClassMib, 0, actions, isOfFunction);
    while (short > 0 && creates < settings.maxCreates && room.fits(pool.memoryClassMib, 0)) {
      room.count(pool.memoryClassMib, 0);
      actions.push({ do: 'create', pool });
      creates += 1;
      short -= 1;
    }
  }
  for (const [key, instances] of world.generic) {
    const wanted = (targets.get(key)?.count ?? 0) + (missing.get(key)?.count ?? 0);
    let kept = 0;
    if (left(key) <= wanted) continue;
    for (const { id, state } of instances) {
      if (taken.has(id)) continue;
      kept += 1;
      if (kept <= wanted) continue;
      const stopAt = (state.kind === 'generic' ? state.since : now) + settings.excessAfterMs;
      if (stopAt <= now) actions.push({ do: 'stop', instance: id, reason: 'excess' });
      else askAgainAt = Math.min(askAgainAt ?? Infinity, stopAt);
    }
  }
  return { actions, askAgainAt };
}
