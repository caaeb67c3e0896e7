import { priorityOf } from './keep-alive/eviction.ts';
import { CORE_DEFAULTS } from './settings.ts';
import { isFresh, minOf, revisionOf, type Instance, type World } from './world.ts';

/** What is to be freed. An instance that would free nothing of it is not worth losing. */
export interface Shortage {
  memoryMib: number;
  cpu: number;
}

/**
 * The instances that may be lost, the cheapest first: without a lease, with nothing known in flight, nobody
 * waiting for it, not counted by `min` or a deployment. Generic ones first (a refill replaces them), then what namespaces hold
 * beyond their share, then by GreedyDual-Size-Frequency, and of those that are worth the same who is idle for longest. For one
 * plan: they are looked through once, when the first is asked for.
 *
 * The share comes first because a tenant says itself what its instances are worth: it calls them as often as it likes, and they load
 * as slowly as they like.
 */
export class Victims {
  readonly #world: World;
  readonly #now: number;
  readonly #budget: Shortage;
  #ranked: Instance[] | null = null;

  /** `budget`: what all instances may take together. */
  constructor(world: World, now: number, budget: Shortage) {
    this.#world = world;
    this.#now = now;
    this.#budget = budget;
  }

  /** The cheapest of those that `among` lets pass; `except` are lost already. null: none may go. */
  cheapest(except: ReadonlySet<string>, shortage: Shortage, among: (instance: Instance) => boolean = () => true): Instance | null {
    if (this.#ranked === null) this.#ranked = this.#rank();
    for (const instance of this.#ranked) {
      if (except.has(instance.id) || !among(instance)) continue;
      const helps = (shortage.memoryMib > 0 && instance.memoryMib > 0) || (shortage.cpu > 0 && instance.cpu > 0);
      // Those that are lost already may have been what `min` did not count.
      if (helps && rankOf(this.#world, instance, except, this.#now) < Infinity) return instance;
    }
    return null;
  }

  #rank(): Instance[] {
    const ranked: { instance: Instance; rank: number }[] = [];
    for (const instance of this.#world.instances.values()) {
      const rank = rankOf(this.#world, instance, NONE, this.#now);
      if (rank < Infinity) ranked.push({ instance, rank });
    }
    ranked.sort((a, b) => a.rank - b.rank || idleOf(a.instance) - idleOf(b.instance));
    const [first, last]: [Instance[], Instance[]] = [[], []];
    const over = overShares(this.#world, this.#budget);
    for (const { instance } of ranked)
      (instance.state.kind === 'generic' || isOver(this.#world, instance, over) ? first : last).push(instance);
    return [...first, ...last];
  }
}

const NONE: ReadonlySet<string> = new Set();

const namespaceOf = (world: World, instance: Instance): string | null =>
  world.revisions.get(revisionOf(instance) ?? '')?.revision.namespace ?? null;

const isEnding = ({ state }: Instance): boolean => state.kind === 'draining' || (state.kind === 'settling' && state.goal === 'stop');

/** What each namespace holds beyond an equal share of the budget among those that hold anything. Nothing where there is only one. */
function overShares(world: World, budget: Shortage): Map<string, Shortage> {
  const held = new Map<string, Shortage>();
  for (const instance of world.instances.values()) {
    const namespace = namespaceOf(world, instance);
    if (namespace === null || isEnding(instance)) continue;
    const { memoryMib, cpu } = held.get(namespace) ?? { memoryMib: 0, cpu: 0 };
    held.set(namespace, { memoryMib: memoryMib + instance.memoryMib, cpu: cpu + instance.cpu });
  }
  if (held.size < 2) return new Map();
  for (const sum of held.values()) {
    sum.memoryMib -= budget.memoryMib / held.size;
    sum.cpu -= budget.cpu / held.size;
  }
  return held;
}

/** Whether it is among those that a namespace holds beyond its share; then it is taken from what that is. */
function isOver(world: World, instance: Instance, over: ReadonlyMap<string, Shortage>): boolean {
  const sum = over.get(namespaceOf(world, instance) ?? '');
  if (sum === undefined || (sum.memoryMib <= 0 && sum.cpu <= 0)) return false;
  sum.memoryMib -= instance.memoryMib;
  sum.cpu -= instance.cpu;
  return true;
}

const idleOf = ({ state }: Instance): number => ('idleSince' in state ? (state.idleSince ?? 0) : 0);

/** What an instance is worth: how often its function is used, times what it would cost to bring it up again, by what it takes. */
export function evictionPriority(world: World, instance: Instance): number {
  const use = world.revisions.get(revisionOf(instance) ?? '')?.use;
  if (use === undefined) return 0;
  const startMs = CORE_DEFAULTS.pooledStartMs + instance.initMs;
  return priorityOf('gdsf', { clock: use.clock, uses: use.uses, startMs, memoryMib: instance.memoryMib, usedAt: idleOf(instance) });
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
      const priority = evictionPriority(world, instance);
      if (kept === 0 || instance.stale) return priority;
      let live = 0;
      for (const other of world.instancesOf(revision.key)) if (isFresh(other) && !except.has(other.id)) live += 1;
      return live <= kept ? Infinity : priority;
    }
    case 'creating':
    case 'specialising':
    case 'settling':
    case 'thawing':
    case 'draining':
      return Infinity;
  }
}
