/**
 * What the controller knows: instances, their leases, revisions and the demand for them. Plain data
 * and the transitions between its states; no I/O, no clock. Counts are derived, not kept.
 * The rules are those of docs/leases.md.
 */
import { newFunctionUse, type FunctionUse } from './keep-alive/use.ts';
import {
  isFresh,
  leasedSlots,
  poolKeyText,
  revisionOf,
  TRANSITIONS,
  type GatewayKey,
  type Instance,
  type InstanceState,
  type LeaseState,
} from './instance.ts';
import type { Demand, RevisionState } from './revision.ts';

export { idleSince, isFresh, isLive, leasedSlots, poolKeyText, revisionOf } from './instance.ts';
export type { Instance, InstanceState, LeaseState, PoolKey } from './instance.ts';
export { minOf, newRevisionState, type Demand, type RevisionState } from './revision.ts';

export class World {
  /** Priority of who was evicted last: what is used from then on is worth more (keep-alive/eviction.ts). */
  evictionClock = 0;
  /** When each function is used, by `NAMESPACE/NAME`. */
  readonly uses = new Map<string, FunctionUse>();
  readonly instances = new Map<string, Instance>();
  readonly revisions = new Map<string, RevisionState>();
  /** Lease id → instance id. */
  readonly leaseIndex = new Map<string, string>();
  #byRevision = new Map<string, Set<Instance>>();
  /** Instances without code, by pool: those that are ready to be claimed, and those that are being created. */
  readonly #generic = new Map<string, Set<Instance>>();
  readonly #creating = new Map<string, Set<Instance>>();
  /** Ids of leases that are being taken back. */
  readonly #revoking = new Set<string>();
  /** Revisions of which something has changed since the plan looked at them last. */
  #touched = new Set<string>();
  static readonly #none: ReadonlySet<Instance> = new Set();

  /** When a function is used, the same for all its revisions. */
  useOf(namespace: string, name: string): FunctionUse {
    const key = `${namespace}/${name}`;
    let use = this.uses.get(key);
    if (!use) this.uses.set(key, (use = newFunctionUse()));
    return use;
  }

  addInstance(instance: Instance): void {
    this.instances.set(instance.id, instance);
    this.#index(instance);
  }

  /** Something that the plan depends on has changed of a revision, in a way that no method here tells of. */
  touch(revision: string | null): void {
    if (revision !== null) this.#touched.add(revision);
  }

  /** Revisions that were touched since this was asked last. */
  takeTouched(): Set<string> {
    const touched = this.#touched;
    this.#touched = new Set();
    return touched;
  }

  /** The plan has looked at it, and knows what it has done itself. */
  untouch(revision: string): void {
    this.#touched.delete(revision);
  }

  #index(instance: Instance): void {
    const place = this.#place(instance);
    if (place === null) return;
    const set = place.sets.get(place.key);
    if (set) set.add(instance);
    else place.sets.set(place.key, new Set([instance]));
    this.touch(revisionOf(instance));
  }

  #unindex(instance: Instance): void {
    const place = this.#place(instance);
    if (place === null) return;
    const set = place.sets.get(place.key);
    set?.delete(instance);
    if (set?.size === 0) place.sets.delete(place.key);
    this.touch(revisionOf(instance));
  }

  /** Where an instance in this state is found; null: nowhere but by its id. */
  #place(instance: Instance): { sets: Map<string, Set<Instance>>; key: string } | null {
    const { state } = instance;
    if (state.kind === 'generic') return { sets: this.#generic, key: poolKeyText(instance) };
    if (state.kind === 'creating') return { sets: this.#creating, key: poolKeyText(instance) };
    return state.revision === null ? null : { sets: this.#byRevision, key: state.revision };
  }

  /** The one place where an instance changes its state; refuses what the state machine does not have. */
  transition(instance: Instance, next: InstanceState): void {
    const from = instance.state.kind;
    if (!TRANSITIONS[from].includes(next.kind)) throw new Error(`instance ${instance.id}: no way from ${from} to ${next.kind}`);
    this.#unindex(instance);
    instance.state = next;
    this.#index(instance);
  }

  /** Forgets an instance and its leases. Returns the gateways that held any. */
  removeInstance(id: string): Set<GatewayKey> {
    const holders = new Set<GatewayKey>();
    const instance = this.instances.get(id);
    if (!instance) return holders;
    for (const lease of instance.leases.values()) {
      holders.add(lease.gateway);
      this.leaseIndex.delete(lease.id);
      this.#revoking.delete(lease.id);
    }
    instance.leases.clear();
    this.#unindex(instance);
    this.instances.delete(id);
    return holders;
  }

  /** Instances of a revision, draining ones too. */
  instancesOf(revision: string): ReadonlySet<Instance> {
    return this.#byRevision.get(revision) ?? World.#none;
  }

  /** Generic instances of each pool that has any. */
  get generic(): ReadonlyMap<string, ReadonlySet<Instance>> {
    return this.#generic;
  }

  /** Instances that are being created, by pool. */
  get creating(): ReadonlyMap<string, ReadonlySet<Instance>> {
    return this.#creating;
  }

  capacityOf(instance: Instance): number {
    const revision = revisionOf(instance);
    return (revision === null ? null : this.revisions.get(revision)?.slots) ?? 0;
  }

  freeSlots(instance: Instance): number {
    return Math.max(0, this.capacityOf(instance) - leasedSlots(instance));
  }

  /** Records a lease, before it is sent. Throws where the shares would exceed the capacity. */
  grant(instance: Instance, id: string, gateway: GatewayKey, slots: number): LeaseState {
    if (instance.state.kind !== 'ready') throw new Error(`instance ${instance.id} is ${instance.state.kind}, not ready`);
    if (slots < 1 || slots > this.freeSlots(instance)) throw new Error(`instance ${instance.id} has not ${slots} slots free`);
    const lease: LeaseState = { id, gateway, slots, state: 'granted', freeAt: null, keeps: 0 };
    instance.leases.set(id, lease);
    this.leaseIndex.set(id, instance.id);
    instance.state.idleSince = null;
    instance.served = true;
    instance.busySince = null;
    const revision = this.revisions.get(instance.state.revision);
    this.touch(instance.state.revision);
    if (revision) Object.assign(revision, { deaths: 0, granted: true, lastDied: false });
    return lease;
  }

  /** [7] The share is free. Unknown leases are ignored. Returns the instance where it was known. */
  release(leaseId: string, now: number): Instance | null {
    const instance = this.instances.get(this.leaseIndex.get(leaseId) ?? '');
    this.leaseIndex.delete(leaseId);
    this.#revoking.delete(leaseId);
    if (!instance?.leases.delete(leaseId)) return null;
    this.touch(revisionOf(instance));
    if (instance.leases.size === 0 && instance.state.kind === 'ready') instance.state.idleSince = now;
    return instance;
  }

  /** [8] The gateway keeps `slots` of the lease and gives the others back; with 0 it is a release. */
  shrink(leaseId: string, slots: number, now: number): void {
    if (slots <= 0) {
      this.release(leaseId, now);
      return;
    }
    const lease = this.findLease(leaseId);
    if (!lease) return;
    this.#touchLease(leaseId);
    lease.slots = Math.min(lease.slots, slots);
    if (lease.state === 'revoking' && lease.keeps > 0 && lease.slots <= lease.keeps) {
      lease.state = 'granted';
      lease.freeAt = null;
      this.#revoking.delete(leaseId);
    }
  }

  /** [8] Takes a lease back down to `keeps` slots (0: whole). The difference is free at `freeAt` at the latest. */
  revoke(leaseId: string, keeps: number, freeAt: number): LeaseState | null {
    const lease = this.findLease(leaseId);
    if (!lease || keeps >= lease.slots) return null;
    lease.state = 'revoking';
    lease.keeps = keeps;
    lease.freeAt = freeAt;
    this.#revoking.add(leaseId);
    this.#touchLease(leaseId);
    return lease;
  }

  #touchLease(leaseId: string): void {
    const instance = this.instances.get(this.leaseIndex.get(leaseId) ?? '');
    if (instance) this.touch(revisionOf(instance));
  }

  findLease(leaseId: string): LeaseState | null {
    return this.instances.get(this.leaseIndex.get(leaseId) ?? '')?.leases.get(leaseId) ?? null;
  }

  /** [8] Frees the shares of revoked leases whose deadline has passed. Returns the instances concerned. */
  expireRevoked(now: number): Instance[] {
    const changed: Instance[] = [];
    for (const id of this.#revoking) {
      const instance = this.instances.get(this.leaseIndex.get(id) ?? '');
      const lease = instance?.leases.get(id);
      if (!instance || !lease) {
        // Its instance is gone, and the lease with it.
        this.#revoking.delete(id);
        continue;
      }
      if (lease.freeAt === null || lease.freeAt > now) continue;
      if (lease.keeps > 0) {
        lease.slots = lease.keeps;
        lease.state = 'granted';
        lease.freeAt = null;
        this.#revoking.delete(id);
        this.touch(revisionOf(instance));
      } else this.release(id, now);
      changed.push(instance);
    }
    return changed;
  }

  /** When the next share of a revoked lease is free whatever its gateway says; null: none is being taken back. */
  nextExpiry(): number | null {
    let next: number | null = null;
    for (const id of this.#revoking) {
      const freeAt = this.findLease(id)?.freeAt ?? null;
      if (freeAt !== null) next = Math.min(next ?? Infinity, freeAt);
    }
    return next;
  }

  /** [12] Frees all that a gateway held, and forgets its demand. Returns the instances it held. */
  dropGateway(gateway: GatewayKey, now: number): Instance[] {
    const held: Instance[] = [];
    for (const instance of this.instances.values()) {
      for (const lease of instance.leases.values()) {
        if (lease.gateway !== gateway) continue;
        this.release(lease.id, now);
        if (!held.includes(instance)) held.push(instance);
      }
    }
    this.forgetDemand(gateway);
    return held;
  }

  /** [5] What a gateway asked for; it says so again after its next welcome. */
  forgetDemand(gateway: GatewayKey): void {
    for (const revision of this.revisions.values()) if (revision.demand.delete(gateway)) this.touch(revision.key);
  }

  /** Whether instances that loaded this revision's code are there: then whoever waits may be served without another start. */
  canServe(revision: string): boolean {
    for (const instance of this.instancesOf(revision)) {
      const serves = isFresh(instance) || (instance.stale && instance.leases.size > 0);
      if (serves && instance.state.kind !== 'specialising') return true;
    }
    return false;
  }

  /** Slots that a gateway may use of a revision: what is granted and not being taken back. */
  grantedSlots(revision: string, gateway: GatewayKey): number {
    let total = 0;
    for (const instance of this.instancesOf(revision)) {
      for (const lease of instance.leases.values()) {
        if (lease.gateway !== gateway) continue;
        total += lease.state === 'granted' ? lease.slots : lease.keeps;
      }
    }
    return total;
  }

  /** Requests of a gateway that no granted slot serves, nor will. */
  unmet(revision: RevisionState, gateway: GatewayKey): number {
    const demand = revision.demand.get(gateway);
    if (!demand || demand.waiting === 0) return 0;
    return Math.min(demand.waiting, Math.max(0, demand.waiting + demand.inFlight - this.grantedSlots(revision.key, gateway)));
  }

  /** [5] The newest word of a gateway about a revision. */
  setDemand(revision: RevisionState, gateway: GatewayKey, want: Omit<Demand, 'since'>, now: number): void {
    const before = revision.demand.get(gateway);
    this.touch(revision.key);
    if (want.waiting === 0 && want.inFlight === 0) {
      revision.demand.delete(gateway);
      return;
    }
    revision.demand.set(gateway, { ...want, since: want.waiting > 0 ? (before?.since ?? now) : null });
  }

  /** What the instances of each namespace may take by their limits, those that are dying too, MiB. */
  memoryByNamespace(): Map<string, number> {
    const total = new Map<string, number>();
    for (const instance of this.instances.values()) {
      const revision = this.revisions.get(revisionOf(instance) ?? '');
      if (!revision) continue;
      const { namespace, settings } = revision.revision;
      total.set(namespace, (total.get(namespace) ?? 0) + settings.memoryMib);
    }
    return total;
  }

  memoryUsedMib(): number {
    let total = 0;
    for (const instance of this.instances.values()) total += instance.memoryMib;
    return total;
  }

  cpuUsed(): number {
    let total = 0;
    for (const instance of this.instances.values()) total += instance.cpu;
    return total;
  }
}
