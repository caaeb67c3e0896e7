/**
 * Asks the core what to do whenever something has changed or a time has come, and carries it out.
 * One pass: for each revision of which something has changed grants, starts and idleness; then the host as a whole. What a
 * pass costs so depends on what happened since the last one, not on how many functions there are.
 */
import { DueTimes } from '../core/due.ts';
import { evictionPriority } from '../core/evict.ts';
import { isPrewarmTime, nextPrewarmAt, noteUse } from '../core/keep-alive/use.ts';
import { planGrants, planHost, planStarts, type Action, type ClaimNeed } from '../core/plan.ts';
import { planIdle } from '../core/plan-idle.ts';
import { poolTargets, poolText, type PoolTargets } from '../core/pool.ts';
import { isGrowing, planRebalance } from '../core/rebalance.ts';
import type { RevisionState } from '../core/world.ts';
import type { EngineContext } from './context.ts';
import type { Gateways } from './gateways.ts';
import type { Lifecycle } from './lifecycle.ts';
import type { PlannerPass } from './options.ts';

/** A pass is made at least this often, for what no event tells of. */
const LONGEST_PAUSE_MS = 5_000;
/** Where passes are made anyway, one of them looks at all revisions this often: some 5 ms for ten thousand. */
const FULL_EVERY_MS = 1_000;
/** A revision that wants an instance nobody waits for, because it is deployed or kept ready, has its turn as if somebody gave up after this, ms. */
const UNHURRIED_MS = 10_000;
/** Whoever waits for memory of its namespace is told after this, ms: one of its instances may become idle until then. */
const QUOTA_WAIT_MS = 5_000;

/** A preview that does not start is not tried anew as if nothing had been: its failures are known for so long after its pause, ms. */
const REMEMBER_FAILURE_MS = 60_000;

/** Who carries out what is decided. */
type Hands = Pick<Lifecycle, 'create' | 'claim' | 'thaw' | 'settle' | 'kill' | 'forms'>;
type Mouth = Pick<Gateways, 'grant' | 'revoke'>;
type PlannerContext = Pick<EngineContext, 'world' | 'clock' | 'settings' | 'log' | 'leads'>;

export class Planner {
  readonly #context: PlannerContext;
  readonly #lifecycle: Hands;
  readonly #gateways: Mouth;
  #scheduled = false;
  #running = false;
  #stopped = true;
  /** All revisions are to be looked at. */
  #all = true;
  #lookedAtAllAt = -Infinity;
  #targets: PoolTargets = new Map();
  #lastClaimAt = -Infinity;
  /** Since when one claim followed the other without a pause for refills. */
  #claimsSince = -Infinity;
  #createsFrom = -Infinity;
  #cancelTimer: () => void = () => {};
  /** Revisions that need instances, as they were looked at last. */
  readonly #needs = new Map<string, ClaimNeed>();
  /** When revisions are to be looked at although nothing happens to them. */
  readonly #due = new DueTimes();
  /** Those that wait for a slot rather than start an instance, because their pool was empty. */
  readonly #hesitating = new Map<string, RevisionState>();
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

  constructor(context: PlannerContext, lifecycle: Hands, gateways: Mouth, onOverQuota: (revision: RevisionState) => void) {
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
    const { settings, clock } = this.#context;
    const now = clock.now();
    if (now - this.#lastClaimAt > settings.refillDelayMs) this.#claimsSince = now;
    this.#lastClaimAt = now;
  }

  /** The claim that refills wait for: the last, or under load that does not end one that was long enough ago. */
  #awaitedClaim(): number {
    const { refillDelayMs, refillMaxDelayMs } = this.#context.settings;
    return Math.min(this.#lastClaimAt, this.#claimsSince + refillMaxDelayMs - refillDelayMs);
  }

  /** Creates fail: none is tried for so long. */
  pauseCreates(ms: number): void {
    this.#createsFrom = this.#context.clock.now() + ms;
  }

  /** Something has changed that the world was not told of: a pass looks at all revisions. */
  kick(): void {
    this.#all = true;
    this.touched();
  }

  /** The world was told what has changed: a pass is made in this turn of the event loop, however often it is asked for. */
  touched(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    // After all that this turn brings: twenty gateways that speak at once are one pass.
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#stopped && !this.#running) this.#pass();
    });
  }

  #pass(): void {
    if (!this.#context.leads()) {
      // It ends, as a rule: whoever holds the lease tells. Until then nothing is decided.
      this.#all = true;
      this.#cancelTimer();
      this.#cancelTimer = this.#context.clock.after(FULL_EVERY_MS, () => this.touched());
      return;
    }
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
      const looked = this.#lookAt(now);
      const paused = now < this.#createsFrom;
      if (paused) wake(this.#createsFrom);
      const limits = { ...settings, quotas: this.#quotas, ...(paused ? { maxCreates: 0 } : {}) };
      const host = planHost(world, this.#needs.values(), limits, now, this.#awaitedClaim(), this.#targets);
      wake(host.askAgainAt);
      wake(this.#checkQuotas(host.overQuota, now));
      this.#apply(host.actions);
      this.#rebalance(looked, host.actions, now);
      wake(world.nextExpiry());
      wake(this.#due.next());
    } catch (error) {
      // What it had taken as touched is looked at again.
      this.#all = true;
      log.error({ error: error instanceof Error ? error.stack : String(error) }, 'a planning pass failed');
    } finally {
      this.#running = false;
    }
    this.#cancelTimer = clock.after(Math.max(1, wakeAt - now), () => this.touched());
  }

  /** Looks at what has changed, or whose time has come; now and then at all. Returns the revisions that were looked at. */
  #lookAt(now: number): Set<string> {
    const { world, settings } = this.#context;
    const keys = world.takeTouched();
    for (const key of this.#due.take(now)) keys.add(key);
    for (const [key, revision] of this.#hesitating) if (world.generic.has(poolText(revision))) keys.add(key);
    if (this.#all || now - this.#lookedAtAllAt >= FULL_EVERY_MS) {
      this.#all = false;
      this.#lookedAtAllAt = now;
      this.#targets = poolTargets(world, settings);
      for (const key of world.revisions.keys()) keys.add(key);
      for (const key of this.#needs.keys()) keys.add(key);
    }
    for (const key of keys) {
      this.#look(key, now);
      world.untouch(key);
    }
    return keys;
  }

  #look(key: string, now: number): void {
    const { world, settings } = this.#context;
    this.#hesitating.delete(key);
    const revision = world.revisions.get(key);
    if (revision) noteUse(world, revision, now);
    if (!revision || !this.#active(revision, now)) {
      this.#needs.delete(key);
      this.#due.set(key, revision ? this.#forget(revision, now) : null);
      return;
    }
    this.#looked += 1;
    this.#apply(planGrants(world, revision));
    const pooled = world.generic.get(poolText(revision))?.size ?? 0;
    const starts = planStarts(world, revision, settings, now, pooled);
    for (const id of starts.thaw) this.#apply([{ do: 'thaw', instance: id }]);
    if (starts.claims > 0)
      this.#needs.set(key, { revision, claims: starts.claims, deadline: this.#deadline(revision), prewarm: starts.prewarm });
    else this.#needs.delete(key);
    if (starts.askAgainAt !== null && pooled === 0) this.#hesitating.set(key, revision);
    const idle = planIdle(world, revision, settings, now);
    this.#apply(idle.actions);
    const again = Math.min(starts.askAgainAt ?? Infinity, idle.askAgainAt ?? Infinity);
    this.#due.set(key, again === Infinity ? null : again);
  }

  /** When the first of those who wait gives up, milliseconds since 1970. Where nobody waits it comes nearer too, or under load its turn never came. */
  #deadline(revision: RevisionState): number {
    const deadlines = [...revision.demand.values()].map((demand) => demand.oldestDeadline ?? Infinity);
    const first = Math.min(Infinity, ...deadlines);
    if (first < Infinity) return first;
    const before = this.#needs.get(revision.key)?.deadline ?? Infinity;
    return before < Infinity ? before : this.#context.clock.wall() + UNHURRIED_MS;
  }

  /** Most functions are asleep: nothing runs, nobody waits, nothing to decide. */
  #active(revision: RevisionState, now: number): boolean {
    return (
      revision.demand.size > 0 ||
      isPrewarmTime(revision, now) ||
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

  /** For revisions with demand that have changed or need more, whether or not they may start more: a share may be all that can be had. */
  #rebalance(looked: ReadonlySet<string>, actions: readonly Action[], now: number): void {
    const { world, settings } = this.#context;
    const evicting = actions.some((action) => action.do === 'stop' && action.reason === 'evicted');
    for (const key of new Set([...looked, ...this.#needs.keys()])) {
      const revision = world.revisions.get(key);
      if (!revision || revision.demand.size < 2) continue;
      if (isGrowing(world, revision, this.#needs.has(key), evicting)) continue;
      const revokes = planRebalance(world, revision);
      if (revokes.length === 0) continue;
      const allowedAt = (this.#rebalancedAt.get(key) ?? -Infinity) + settings.rebalanceEveryMs;
      if (allowedAt > now) {
        this.#due.set(key, Math.min(allowedAt, this.#due.of(key) ?? Infinity));
        continue;
      }
      this.#rebalancedAt.set(key, now);
      this.#apply(revokes);
    }
  }

  /**
   * Revisions without traffic of which nothing runs and nobody asks; one that fails to start, some time after: then this is returned,
   * or when one with traffic is to be brought up before anybody asks.
   */
  #forget(revision: RevisionState, now: number): number | null {
    if (revision.percent > 0) return nextPrewarmAt(revision, now);
    const rememberUntil = revision.notBefore + REMEMBER_FAILURE_MS;
    if (revision.routed && revision.failures > 0 && now < rememberUntil) return rememberUntil;
    this.#context.world.revisions.delete(revision.key);
    this.#rebalancedAt.delete(revision.key);
    this.#lifecycle.forms.delete(revision.key);
    return null;
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
          instance.prewarmed = action.prewarm === true;
          this.#lifecycle.claim(instance, world.revisions.get(action.revision)!);
          break;
        case 'thaw':
          this.#lifecycle.thaw(instance);
          break;
        case 'freeze':
          this.#lifecycle.settle(instance, 'freeze');
          break;
        case 'stop':
          if (action.reason === 'evicted') world.evictionClock = Math.max(world.evictionClock, evictionPriority(world, instance));
          if (instance.state.kind === 'generic') this.#lifecycle.kill(instance, 'stopped', action.reason);
          else this.#lifecycle.settle(instance, 'stop');
          break;
      }
    }
  }
}
