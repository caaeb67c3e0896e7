/** What a plan may still take while it is made: of the host's budget, and of the quotas of namespaces. */
import type { Victims } from './evict.ts';
import type { Action } from './plan.ts';
import type { CoreSettings } from './settings.ts';
import { revisionOf, type Instance, type RevisionState, type World } from './world.ts';

/** On its way out, with nobody who may still use it. */
const isGoing = ({ state, leases }: Instance): boolean =>
  (state.kind === 'draining' && leases.size === 0) || (state.kind === 'settling' && state.goal === 'stop');

interface Amount {
  memoryMib: number;
  cpu: number;
}

/** What is left of the budget while a plan is made. Instances are summed up when it is first asked for. */
export class Room {
  readonly #world: World;
  readonly #settings: CoreSettings;
  readonly #taken: Set<string>;
  readonly #victims: Victims;
  /** What is free; and what those that are on their way out will give back. */
  #sums: { free: Amount; coming: Amount } | null = null;

  constructor(world: World, settings: CoreSettings, taken: Set<string>, victims: Victims) {
    this.#world = world;
    this.#settings = settings;
    this.#taken = taken;
    this.#victims = victims;
  }

  #sumUp(): { free: Amount; coming: Amount } {
    const free = { memoryMib: this.#settings.memoryBudgetMib, cpu: this.#settings.cpuBudget };
    const coming = { memoryMib: 0, cpu: 0 };
    for (const instance of this.#world.instances.values()) {
      const { memoryMib, cpu } = instance;
      free.memoryMib -= memoryMib;
      free.cpu -= cpu;
      if (!isGoing(instance)) continue;
      coming.memoryMib += memoryMib;
      coming.cpu += cpu;
    }
    return (this.#sums = { free, coming });
  }

  fits(memoryMib: number, cpu: number): boolean {
    const { free } = this.#sums ?? this.#sumUp();
    // Comparing without zero lets a claim that adds nothing go through on a full host.
    return (memoryMib === 0 || memoryMib <= free.memoryMib) && (cpu === 0 || cpu <= free.cpu);
  }

  count(memoryMib: number, cpu: number): void {
    const { free } = this.#sums ?? this.#sumUp();
    free.memoryMib -= memoryMib;
    free.cpu -= cpu;
  }

  /**
   * Takes so much, or asks for the evictions that will make room for it; for none where they would not. Dying instances count
   * until they are gone. `among`: those that may go for it.
   */
  take(memoryMib: number, cpu: number, actions: Action[], among?: (instance: Instance) => boolean): boolean {
    if (this.fits(memoryMib, cpu)) {
      this.count(memoryMib, cpu);
      return true;
    }
    const { free, coming } = this.#sums ?? this.#sumUp();
    let { memoryMib: comingMib, cpu: comingCpu } = coming;
    const victims: Instance[] = [];
    const chosen = new Set(this.#taken);
    for (;;) {
      const shortage = { memoryMib: memoryMib - free.memoryMib - comingMib, cpu: cpu - free.cpu - comingCpu };
      if (memoryMib === 0) shortage.memoryMib = 0;
      if (cpu === 0) shortage.cpu = 0;
      if (shortage.memoryMib <= 0 && shortage.cpu <= 0) break;
      const victim = this.#victims.cheapest(chosen, shortage, among);
      if (!victim) return false;
      chosen.add(victim.id);
      victims.push(victim);
      comingMib += victim.memoryMib;
      comingCpu += victim.cpu;
    }
    for (const victim of victims) {
      this.#taken.add(victim.id);
      actions.push({ do: 'stop', instance: victim.id, reason: 'evicted' });
    }
    return false;
  }
}

/** What is left of the namespaces' memory while a plan is made. */
export class Quotas {
  readonly #world: World;
  readonly #quotas: ReadonlyMap<string, number>;
  readonly #taken: Set<string>;
  readonly #victims: Victims;
  #used: Map<string, number> | null = null;

  constructor(world: World, quotas: ReadonlyMap<string, number>, taken: Set<string>, victims: Victims) {
    this.#world = world;
    this.#quotas = quotas;
    this.#taken = taken;
    this.#victims = victims;
  }

  /** Whether one more instance of the revision is within the quota of its namespace, as things are. */
  fits({ revision: { namespace, settings } }: RevisionState): boolean {
    const quota = this.#quotas.get(namespace);
    return quota === undefined || this.#usedBy(namespace) + settings.memoryMib <= quota;
  }

  count({ revision: { namespace, settings } }: RevisionState): void {
    if (this.#quotas.has(namespace)) this.#used?.set(namespace, this.#usedBy(namespace) + settings.memoryMib);
  }

  #usedBy(namespace: string): number {
    this.#used ??= this.#world.memoryByNamespace();
    return this.#used.get(namespace) ?? 0;
  }

  /**
   * Whether one more instance of the revision is within the quota of its namespace; then it is counted.
   * `later`: it will be, when something that is on its way out, or is stopped for it now, has gone.
   */
  take({ revision }: RevisionState, actions: Action[]): 'fits' | 'later' | 'over' {
    const { namespace } = revision;
    const quota = this.#quotas.get(namespace);
    if (quota === undefined) return 'fits';
    const used = this.#usedBy(namespace);
    const need = revision.settings.memoryMib;
    if (used + need <= quota) {
      this.#used?.set(namespace, used + need);
      return 'fits';
    }
    const own = (instance: Instance): boolean => this.#world.revisions.get(revisionOf(instance) ?? '')?.revision.namespace === namespace;
    let shortage = used + need - quota;
    for (const instance of this.#world.instances.values()) if (own(instance) && isGoing(instance)) shortage -= instance.memoryMib;
    const victims: Instance[] = [];
    const chosen = new Set(this.#taken);
    while (shortage > 0) {
      const victim = this.#victims.cheapest(chosen, { memoryMib: shortage, cpu: 0 }, own);
      if (!victim) return 'over';
      chosen.add(victim.id);
      victims.push(victim);
      shortage -= victim.memoryMib;
    }
    for (const victim of victims) {
      this.#taken.add(victim.id);
      actions.push({ do: 'stop', instance: victim.id, reason: 'evicted' });
    }
    return 'later';
  }
}
