/**
 * Asks the core what to do whenever something has changed or a time has come, and carries it out.
 * One pass: for each active revision grants, starts and idleness; then the host as a whole.
 */
import { planGrants, planHost, planIdle, planStarts, type Action, type ClaimNeed } from '../core/plan.ts';
import { poolOf } from '../core/pool.ts';
import { isGrowing, planRebalance } from '../core/rebalance.ts';
import { poolKeyText, type RevisionState } from '../core/world.ts';
import type { EngineContext } from './context.ts';
import type { Gateways } from './gateways.ts';
import type { Lifecycle } from './lifecycle.ts';
import type { PlannerPass } from './options.ts';

/** A pass is made at least this often, for what no event tells of. */
const LONGEST_PAUSE_MS = 5_000;
/** Whoever waits for memory of its namespace is told after this, ms: one of its instances may become idle until then. */
const QUOTA_WAIT_MS = 5_000;

/** A preview that does not start is not tried anew as if nothing had been: its failures are known for so long after its pause, ms. */
const REMEMBER_FAILURE_MS = 60_000;

export class Planner {
  readonly #context: EngineContext;
  readonly #lifecycle: Lifecycle;
  readonly #gateways: Gateways;
  #scheduled = false;
  #running = false;
  #stopped = true;
  #lastClaimAt = -Infinity;
  #createsFrom = -Infinity;
  #cancelTimer: () => void = () => {};
  readonly #rebalancedAt = new Map<string, number>();
  /** Since when a revision has got no instance for its namespace's quota. */
  readonly #overQuotaSince = new Map<string, number>();
  readonly #onOverQuota: (revision: RevisionState) => void;
  #quotas: ReadonlyMap<string, number> = new Map();
  /** Of the pass that is being made. */
  #looked = 0;
  #decided = 0;

  /** Hears of every pass. */
  onPass: (pass: PlannerPass) => void = () => {};

  constructor(context: EngineContext, lifecycle: Lifecycle, gateways: Gateways, onOverQuota: (revision: RevisionState) => void) {
    this.#context = context;
    this.#onOverQuota = onOverQuota;
    this.#lifecycle = lifecycle;
    this.#gateways = gateways;
  }

  /** Until this is called nothing is decided: the inventory comes first [3]. */
  start(): void {
    this.#stopped = false;
    this.kick();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
  }

  /** Memory that namespaces may take, MiB; those that are not named, any. */
  setQuotas(quotas: ReadonlyMap<string, number>): void {
    this.#quotas = quotas;
    this.kick();
  }

  claimed(): void {
    this.#lastClaimAt = this.#context.clock.now();
  }

  /** Creates fail: none is tried for so long. */
  pauseCreates(ms: number): void {
    this.#createsFrom = this.#context.clock.now() + ms;
  }

  /** A pass will be made in this turn of the event loop, however often it is asked for. */
  kick(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (!this.#stopped && !this.#running) this.#pass();
    });
  }

  #pass(): void {
    const begun = performance.now();
    this.#looked = 0;
    this.#decided = 0;
    this.#plan();
    this.onPass({ ms: performance.now() - begun, revisions: this.#looked, decisions: this.#decided });
  }

  #plan(): void {
    const { world, clock, settings, log } = this.#context;
    this.#running = true;
    this.#cancelTimer();
    const now = clock.now();
    let wakeAt = now + LONGEST_PAUSE_MS;
    const wake = (at: number | null) => {
      if (at !== null) wakeAt = Math.min(wakeAt, at);
    };
    try {
      world.expireRevoked(now);
      const pooled = new Map<string, number>();
      for (const instance of world.instances.values()) {
        if (instance.state.kind === 'generic') pooled.set(poolKeyText(instance), (pooled.get(poolKeyText(instance)) ?? 0) + 1);
        for (const lease of instance.leases.values()) wake(lease.freeAt);
      }
      const needs: ClaimNeed[] = [];
      for (const revision of world.revisions.values()) {
        if (!this.#active(revision)) continue;
        this.#looked += 1;
        this.#apply(planGrants(world, revision));
        const starts = planStarts(world, revision, settings, now, pooled.get(poolKeyText(poolOf(revision))) ?? 0);
        wake(starts.askAgainAt);
        for (const id of starts.thaw) this.#apply([{ do: 'thaw', instance: id }]);
        if (starts.claims > 0) {
          const deadlines = [...revision.demand.values()].map((demand) => demand.oldestDeadline ?? Infinity);
          needs.push({ revision, claims: starts.claims, deadline: Math.min(Infinity, ...deadlines) });
        }
        const idle = planIdle(world, revision, settings, now);
        wake(idle.askAgainAt);
        this.#apply(idle.actions);
      }
      const paused = now < this.#createsFrom;
      if (paused) wake(this.#createsFrom);
      const limits = { ...settings, quotas: this.#quotas, ...(paused ? { maxCreates: 0 } : {}) };
      const host = planHost(world, needs, limits, now, this.#lastClaimAt);
      wake(host.askAgainAt);
      wake(this.#checkQuotas(host.overQuota, now));
      this.#apply(host.actions);
      wake(this.#rebalance(needs, host.actions, now));
      this.#forget(now);
    } catch (error) {
      log.error({ error: error instanceof Error ? error.stack : String(error) }, 'a planning pass failed');
    } finally {
      this.#running = false;
    }
    this.#cancelTimer = clock.after(Math.max(1, wakeAt - now), () => this.kick());
  }

  /** Most functions are asleep: nothing runs, nobody waits, nothing to decide. */
  #active(revision: RevisionState): boolean {
    return (
      revision.demand.size > 0 ||
      revision.floor > 0 ||
      (revision.routed && revision.revision.settings.min > 0) ||
      this.#context.world.instancesOf(revision.key).size > 0
    );
  }

  #checkQuotas(over: readonly RevisionState[], now: number): number | null {
    let next: number | null = null;
    for (const key of this.#overQuotaSince.keys()) if (!over.some((revision) => revision.key === key)) this.#overQuotaSince.delete(key);
    for (const revision of over) {
      const since = this.#overQuotaSince.get(revision.key) ?? now;
      this.#overQuotaSince.set(revision.key, since);
      if (now - since < QUOTA_WAIT_MS) next = Math.min(next ?? Infinity, since + QUOTA_WAIT_MS);
      else this.#onOverQuota(revision);
    }
    return next;
  }

  /** For every revision with demand, whether or not it may start more: a share may be all that can be had. */
  #rebalance(needs: ClaimNeed[], actions: readonly Action[], now: number): number | null {
    const { world, settings } = this.#context;
    let next: number | null = null;
    const evicting = actions.some((action) => action.do === 'stop' && action.reason === 'evicted');
    for (const revision of world.revisions.values()) {
      if (revision.demand.size < 2) continue;
      const needed = needs.some((need) => need.revision === revision);
      if (isGrowing(world, revision, needed, evicting)) continue;
      const allowedAt = (this.#rebalancedAt.get(revision.key) ?? -Infinity) + settings.rebalanceEveryMs;
      if (allowedAt > now) {
        next = Math.min(next ?? Infinity, allowedAt);
        continue;
      }
      const revokes = planRebalance(world, revision);
      if (revokes.length > 0) this.#rebalancedAt.set(revision.key, now);
      this.#apply(revokes);
    }
    return next;
  }

  /** Revisions without traffic of which nothing runs and nobody asks; one that fails to start, some time after. */
  #forget(now: number): void {
    const { world } = this.#context;
    for (const revision of world.revisions.values()) {
      if (revision.percent > 0 || revision.floor > 0 || revision.demand.size > 0 || world.instancesOf(revision.key).size > 0) continue;
      if (revision.routed && revision.failures > 0 && now < revision.notBefore + REMEMBER_FAILURE_MS) continue;
      world.revisions.delete(revision.key);
      this.#rebalancedAt.delete(revision.key);
      this.#lifecycle.forms.delete(revision.key);
    }
  }

  #apply(actions: readonly Action[]): void {
    const { world } = this.#context;
    this.#decided += actions.length;
    for (const action of actions) {
      if (action.do === 'create') {
        this.#lifecycle.create(action.pool);
        continue;
      }
      if (action.do === 'revoke') {
        this.#gateways.revoke(action.lease, action.keeps);
        continue;
      }
      const instance = world.instances.get(action.instance);
      if (!instance) continue;
      switch (action.do) {
        case 'grant':
          this.#gateways.grant(instance, action.gateway, action.slots);
          break;
        case 'claim':
          this.#lifecycle.claim(instance, world.revisions.get(action.revision)!);
          break;
        case 'thaw':
          this.#lifecycle.thaw(instance);
          break;
        case 'freeze':
          this.#lifecycle.settle(instance, 'freeze');
          break;
        case 'stop':
          if (instance.state.kind === 'generic') this.#lifecycle.kill(instance, 'stopped', action.reason);
          else this.#lifecycle.settle(instance, 'stop');
          break;
      }
    }
  }
}
