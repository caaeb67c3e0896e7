/**
 * The core in virtual time with a trivial executor: a seeded random course of demand, deaths, lost
 * gateways, failing starts, shifts of traffic and changed secrets. After each step the invariants must hold; when the noise ends,
 * everyone who waits must be served, and when demand ends, everything must go.
 */
import { describe, expect, it } from 'vitest';
import { noteUse } from './keep-alive/use.ts';
import { planGrants, planHost, planStarts, type Action, type ClaimNeed } from './plan.ts';
import { planIdle } from './plan-idle.ts';
import { isGrowing, planRebalance } from './rebalance.ts';
import { addInstance, testRevision, testSettings } from './testing.ts';
import { isFresh, leasedSlots, poolKeyText, revisionOf, World, type Instance, type RevisionState } from './world.ts';

/** mulberry32: small, and the same everywhere. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What a gateway has of one revision. */
interface Load {
  waiting: number;
  /** Requests in flight by lease. */
  inFlight: Map<string, number>;
}

function atMost(what: string, value: number, limit: number): void {
  if (value > limit) throw new Error(`${what}: ${value}, at most ${limit}`);
}

const STEP_MS = 10;
const GATEWAYS = ['g/1', 'h/1'];
/** Two revisions of one function: what one gets the other does not. */
const SHIFTED = ['team/b@1', 'team/b@2'] as const;
const TEAM_QUOTA_MIB = 640;

class Simulation {
  readonly world = new World();
  readonly settings = testSettings({
    memoryBudgetMib: 2_048,
    cpuBudget: 24,
    maxCreates: 3,
    poolSize: 2,
    quotas: new Map([['team', TEAM_QUOTA_MIB]]),
  });
  readonly loads = new Map<string, Load>();
  readonly chance: () => number;
  now = 0;
  noisy = true;
  prewarmed = 0;
  #due: { at: number; run: () => void }[] = [];
  #lastClaimAt = -Infinity;
  #leases = 0;

  constructor(seed: number) {
    this.chance = random(seed);
    const shapes = [
      { max: 3, memoryMib: 128, slots: 1, keepAliveSeconds: 1, min: 0 },
      { max: 20, memoryMib: 100, slots: 10, keepAliveSeconds: 2, min: 0 },
      { max: 2, memoryMib: 512, slots: 4, keepAliveSeconds: 0, min: 0 },
      { max: 1, memoryMib: 64, slots: 2, keepAliveSeconds: 'auto' as const, min: 0 },
      { max: 5, memoryMib: 256, slots: 5, keepAliveSeconds: 1, min: 1 },
      // Two functions of a namespace with a quota, one of them with traffic that is shifted.
      { key: 'team/a@1', max: 4, memoryMib: 128, slots: 3, keepAliveSeconds: 1, min: 0 },
      { key: SHIFTED[0], max: 4, memoryMib: 128, slots: 2, keepAliveSeconds: 2, min: 2 },
      { key: SHIFTED[1], max: 4, memoryMib: 128, slots: 2, keepAliveSeconds: 2, min: 2 },
    ];
    for (const [index, { slots, key, ...settings }] of shapes.entries()) {
      const revision = testRevision(key ?? `default/f${index}@1`, { ...settings, timeoutSeconds: 5 }, slots);
      if (revision.key === SHIFTED[1]) revision.percent = 0;
      // A stay and a return in the time that this world has.
      const policy = () => ({ stayMs: 300, prewarm: { fromMs: 900, untilMs: 1_400 } });
      if (settings.keepAliveSeconds === 'auto') revision.use = { ...revision.use, policy };
      this.world.revisions.set(revision.key, revision);
      for (const gateway of GATEWAYS) this.loads.set(`${gateway} ${revision.key}`, { waiting: 0, inFlight: new Map() });
    }
  }

  later(ms: number, run: () => void): void {
    this.#due.push({ at: this.now + ms, run });
  }

  /** Whether the instance is still what it was when something was begun. */
  #still(instance: Instance, kind: Instance['state']['kind']): boolean {
    return this.world.instances.get(instance.id) === instance && instance.state.kind === kind;
  }

  destroy(instance: Instance): void {
    if (instance.state.kind === 'draining' || !this.world.instances.has(instance.id)) return;
    for (const lease of instance.leases.values()) {
      // What was in flight is lost; nobody asks again.
      for (const load of this.loads.values()) load.inFlight.delete(lease.id);
      this.world.leaseIndex.delete(lease.id);
    }
    instance.leases.clear();
    const revision = 'revision' in instance.state ? instance.state.revision : null;
    this.world.transition(instance, { kind: 'draining', revision, since: this.now });
    this.later(100 * this.chance(), () => this.world.removeInstance(instance.id));
  }

  step(): void {
    this.now += STEP_MS;
    const due = this.#due.filter((timer) => timer.at <= this.now).sort((a, b) => a.at - b.at);
    this.#due = this.#due.filter((timer) => timer.at > this.now);
    for (const { run } of due) run();
    if (this.noisy) this.#noise();
    for (const [key, load] of this.loads) this.#gateway(key, load);
    this.#pass();
    this.#check();
  }

  #noise(): void {
    if (this.chance() < 0.1) {
      const keys = [...this.loads.keys()];
      this.loads.get(keys[Math.floor(this.chance() * keys.length)]!)!.waiting += Math.ceil(this.chance() * 12);
    }
    if (this.chance() < 0.01) {
      const instances = [...this.world.instances.values()];
      const victim = instances[Math.floor(this.chance() * instances.length)];
      if (victim) this.destroy(victim);
    }
    if (this.chance() < 0.005) this.shift([0, 10, 50, 100][Math.floor(this.chance() * 4)]!);
    if (this.chance() < 0.003) this.#outdate();
    if (this.chance() < 0.002) {
      const gateway = GATEWAYS[Math.floor(this.chance() * GATEWAYS.length)]!;
      this.world.dropGateway(gateway, this.now);
      for (const [key, load] of this.loads) if (key.startsWith(gateway)) Object.assign(load, { waiting: 0, inFlight: new Map() });
    }
  }

  /** So many percent for the second revision. What lost all of its share gives its leases back, and gateways take its waiters to the other. */
  shift(percent: number): void {
    const { world } = this;
    const [first, second] = SHIFTED.map((key) => world.revisions.get(key)!) as [RevisionState, RevisionState];
    for (const [revision, share, other] of [
      [first, 100 - percent, second],
      [second, percent, first],
    ] as const) {
      if (revision.percent > 0 && share === 0) {
        revision.lostShareAt = this.now;
        for (const instance of world.instancesOf(revision.key))
          for (const lease of instance.leases.values()) world.revoke(lease.id, 0, this.now + 2_000);
        for (const gateway of GATEWAYS) {
          const load = this.loads.get(`${gateway} ${revision.key}`)!;
          this.loads.get(`${gateway} ${other.key}`)!.waiting += load.waiting;
          load.waiting = 0;
        }
      }
      revision.percent = share;
    }
  }

  /** A secret has changed: some revision's instances have the old value. */
  #outdate(): void {
    const keys = [...this.world.revisions.keys()];
    const key = keys[Math.floor(this.chance() * keys.length)]!;
    for (const instance of this.world.instancesOf(key)) {
      instance.stale = true;
      for (const lease of instance.leases.values()) this.world.revoke(lease.id, 0, this.now + 2_000);
    }
  }

  /** Uses its leases, ends requests, gives back what it does not use, and says what it wants. */
  #gateway(key: string, load: Load): void {
    const [gateway, revisionKey] = key.split(' ') as [string, string];
    const { world } = this;
    for (const instance of world.instancesOf(revisionKey)) {
      for (const lease of instance.leases.values()) {
        if (lease.gateway !== gateway) continue;
        const before = load.inFlight.get(lease.id) ?? 0;
        const slots = lease.state === 'granted' ? lease.slots : lease.keeps;
        let inFlight = [...Array(before).keys()].filter(() => this.chance() > 0.3).length;
        const taken = Math.min(load.waiting, Math.max(0, slots - inFlight));
        load.waiting -= taken;
        inFlight += taken;
        load.inFlight.set(lease.id, inFlight);
        if (lease.state === 'revoking' && lease.keeps > 0 && inFlight <= lease.keeps) world.shrink(lease.id, lease.keeps, this.now);
        if (inFlight === 0 && (lease.state === 'revoking' || this.chance() < 0.1)) {
          load.inFlight.delete(lease.id);
          world.release(lease.id, this.now);
        }
      }
    }
    const revision = world.revisions.get(revisionKey)!;
    const inFlight = [...load.inFlight.values()].reduce((sum, count) => sum + count, 0);
    const oldestDeadline = load.waiting > 0 ? 1_000_000 + this.now : null;
    world.setDemand(revision, gateway, { waiting: load.waiting, inFlight, oldestDeadline, serviceMs: 30 }, this.now);
  }

  #pass(): void {
    const { world, settings, now } = this;
    world.expireRevoked(now);
    const needs: ClaimNeed[] = [];
    for (const revision of world.revisions.values()) {
      noteUse(world, revision, now);
      this.#apply(planGrants(world, revision));
      const pooled = [...world.instances.values()].filter((instance) => instance.state.kind === 'generic').length;
      const starts = planStarts(world, revision, settings, now, pooled);
      for (const instance of starts.thaw) this.#apply([{ do: 'thaw', instance }]);
      if (starts.claims > 0) {
        const deadlines = [...revision.demand.values()].map((demand) => demand.oldestDeadline ?? Infinity);
        needs.push({ revision, claims: starts.claims, deadline: Math.min(Infinity, ...deadlines), prewarm: starts.prewarm });
      }
      this.#apply(planIdle(world, revision, settings, now).actions);
    }
    const { actions } = planHost(world, needs, settings, now, this.#lastClaimAt);
    this.#apply(actions);
    const evicting = actions.some((action) => action.do === 'stop' && action.reason === 'evicted');
    for (const revision of world.revisions.values()) {
      const needed = needs.some((need) => need.revision === revision);
      if (revision.demand.size > 1 && !isGrowing(world, revision, needed, evicting)) this.#apply(planRebalance(world, revision));
    }
  }

  #apply(actions: readonly Action[]): void {
    for (const action of actions) {
      if (action.do === 'create') this.#create(action);
      else if (action.do === 'revoke') this.world.revoke(action.lease, action.keeps, this.now + 2_000);
      else this.#act(action, this.world.instances.get(action.instance)!);
    }
  }

  #create({ pool }: Extract<Action, { do: 'create' }>): void {
    const instance = addInstance(this.world, { kind: 'creating' }, { ...pool, memoryMib: pool.memoryClassMib });
    this.later(50 + 300 * this.chance(), () => {
      if (!this.#still(instance, 'creating')) return;
      if (this.noisy && this.chance() < 0.05) this.destroy(instance);
      else this.world.transition(instance, { kind: 'generic', since: this.now });
    });
  }

  #act(action: Exclude<Action, { do: 'create' } | { do: 'revoke' }>, instance: Instance): void {
    const { world } = this;
    switch (action.do) {
      case 'grant':
        if (instance.stale) throw new Error(`a grant of ${instance.id}, which is stale`);
        world.grant(instance, `l-${(this.#leases += 1)}`, action.gateway, action.slots);
        break;
      case 'claim':
        instance.prewarmed = action.prewarm === true;
        this.prewarmed += action.prewarm ? 1 : 0;
        this.#claim(instance, world.revisions.get(action.revision)!);
        break;
      case 'thaw': {
        if (instance.state.kind !== 'frozen') throw new Error(`thaw of ${instance.state.kind}`);
        const { revision, idleSince } = instance.state;
        world.transition(instance, { kind: 'thawing', revision, idleSince });
        this.later(5, () => {
          if (this.#still(instance, 'thawing')) world.transition(instance, { kind: 'ready', revision, idleSince: this.now });
        });
        break;
      }
      case 'freeze':
      case 'stop': {
        const { state } = instance;
        if (state.kind === 'generic' || state.kind === 'frozen') return this.destroy(instance);
        if (state.kind !== 'ready' || state.idleSince === null) throw new Error(`${action.do} of one that is ${state.kind}`);
        const { revision, idleSince } = state;
        world.transition(instance, { kind: 'settling', revision, idleSince, goal: action.do });
        this.later(5, () => {
          if (!this.#still(instance, 'settling')) return;
          const wanted = [...world.revisions.get(revision)!.demand.values()].some((demand) => demand.waiting > 0);
          if (this.noisy && this.chance() < 0.1) instance.notBefore = this.now + 200;
          else if (action.do === 'freeze') return world.transition(instance, { kind: 'frozen', revision, idleSince });
          else if (!wanted || instance.stale) return this.destroy(instance);
          else instance.notBefore = this.now + 1_000;
          world.transition(instance, { kind: 'ready', revision, idleSince });
        });
        break;
      }
    }
  }

  #claim(instance: Instance, revision: RevisionState): void {
    // Throws where the instance is not generic: nothing is specialised twice.
    this.world.transition(instance, { kind: 'specialising', revision: revision.key, since: this.now });
    instance.cpu = revision.revision.settings.cpu;
    this.#lastClaimAt = this.now;
    this.later(20 + 50 * this.chance(), () => {
      if (!this.#still(instance, 'specialising')) return;
      if (this.noisy && this.chance() < 0.1) {
        revision.failures += 1;
        revision.notBefore = this.now + 500;
        return this.destroy(instance);
      }
      revision.failures = 0;
      instance.memoryMib = revision.revision.settings.memoryMib;
      this.world.transition(instance, { kind: 'ready', revision: revision.key, idleSince: this.now });
    });
  }

  #check(): void {
    const { world, settings } = this;
    atMost('MiB', world.memoryUsedMib(), settings.memoryBudgetMib);
    atMost('CPU', world.cpuUsed(), settings.cpuBudget);
    let creating = 0;
    for (const instance of world.instances.values()) {
      if (instance.state.kind === 'creating') creating += 1;
      const leased = leasedSlots(instance);
      if (leased > 0) atMost(`slots leased of ${instance.id}`, leased, world.capacityOf(instance));
      for (const lease of instance.leases.keys())
        if (world.leaseIndex.get(lease) !== instance.id) throw new Error(`${lease} is not indexed`);
      if (leased > 0 && instance.state.kind !== 'ready') throw new Error(`leases of one that is ${instance.state.kind}`);
      if (instance.state.kind === 'ready' && (instance.state.idleSince === null) !== leased > 0)
        throw new Error(`${instance.id} is idle with leases, or busy without`);
    }
    atMost('creates', creating, settings.maxCreates);
    atMost('MiB of the team', world.memoryByNamespace().get('team') ?? 0, TEAM_QUOTA_MIB);
    let indexed = 0;
    for (const revision of world.revisions.values()) {
      const live = [...world.instancesOf(revision.key)].filter(isFresh).length;
      atMost(`instances of ${revision.key}`, live, revision.revision.settings.max);
      for (const instance of world.instancesOf(revision.key)) indexed += instance.leases.size;
    }
    if (world.leaseIndex.size !== indexed) throw new Error(`${world.leaseIndex.size} leases are indexed, ${indexed} are there`);
  }

  /** Steps until nobody waits and nothing is in flight; the demand that was there is served out. */
  stepsUntil(done: () => boolean, most: number): number {
    for (let steps = 0; steps < most; steps += 1) {
      if (done()) return steps;
      this.step();
    }
    throw new Error(`not after ${most} steps: ${this.describe()}`);
  }

  describe(): string {
    const loads = [...this.loads].filter(([, load]) => load.waiting > 0).map(([key, load]) => `${key} waits ${load.waiting}`);
    const instances = [...this.world.instances.values()].map((instance) => `${poolKeyText(instance)} ${instance.state.kind}`);
    return `${loads.join('; ')} | ${instances.join('; ')}`;
  }
}

describe('the core, over a long and noisy time', () => {
  it.each(Array.from({ length: 12 }, (_, index) => index + 1))('keeps its invariants, serves all, and scales to zero: seed %i', (seed) => {
    const simulation = new Simulation(seed);
    for (let phase = 0; phase < 3; phase += 1) {
      simulation.noisy = true;
      for (let step = 0; step < 1_500; step += 1) simulation.step();
      simulation.noisy = false;
      simulation.stepsUntil(
        () =>
          [...simulation.loads.values()].every((load) => load.waiting === 0 && [...load.inFlight.values()].every((count) => count === 0)),
        3_000,
      );
    }
    // Only what `min` keeps of those with traffic and the pools are left: then not even those.
    const left = () => [...simulation.world.instances.values()].map(revisionOf).filter((revision) => revision !== null);
    simulation.shift(50);
    simulation.stepsUntil(() => left().sort().join() === ['default/f4@1', ...SHIFTED].join(), 3_000);
    simulation.shift(100);
    simulation.stepsUntil(() => left().sort().join() === ['default/f4@1', SHIFTED[1], SHIFTED[1]].join(), 3_000);
    for (const revision of simulation.world.revisions.values()) Object.assign(revision, { routed: false, percent: 0 });
    Object.assign(simulation.settings, { poolSize: 0, excessAfterMs: 100 });
    simulation.stepsUntil(() => simulation.world.instances.size === 0, 3_000);
    expect(simulation.world.leaseIndex.size).toBe(0);
    expect(simulation.prewarmed).toBeGreaterThan(0);
  });

  it('is the same for the same seed', () => {
    const course = () => {
      const simulation = new Simulation(42);
      for (let step = 0; step < 500; step += 1) simulation.step();
      return simulation.describe();
    };
    expect(course()).toBe(course());
  });
});
