/**
 * The leases that this gateway holds, and who waits for one: the gateway's half of docs/leases.md,
 * whose sections are the numbers in brackets. No I/O: what is sent goes through `send`, time comes
 * from a clock, and connections are made by `connect`.
 *
 * Which lease serves: the one whose slot was freed last (a stack). So load packs onto as few
 * instances as it needs, the others stay unused for a second, are released and can be frozen or
 * stopped; and what serves has its code and sockets warm. Spreading evenly would keep every
 * instance a little busy and scale none to zero. How many requests an instance can bear at a time
 * is not guessed here: it is the function's concurrency.
 */
import type { Problem } from '#contract/errors.ts';
import type { GatewayMessage, Lease, StartInfo } from '#contract/link.ts';
import type { Address } from '#contract/runtime.ts';
import type { Clock } from '#kit/clock.ts';
import {
  type Cause,
  type Connection,
  Demand,
  type HeldLease,
  type Instance,
  isUnused,
  type Waiter,
  type Wanted,
  WantReporter,
} from './demand.ts';
import { LeasedInstances } from './leased-instances.ts';
import { Streams } from './streams.ts';

/** [6] An unused lease without waiters is given back after this. */
export const UNUSED_RELEASE_MS = 1_000;
/** How often unused leases and changes of load are looked at. */
export const SWEEP_MS = 250;
/** How long an instance that said `full` is left alone. It frees slots as requests end, so not long. */
export const FULL_PAUSE_MS = 5;
/** [3] How long the streams of a lease go on that a welcome dropped: nobody says until when. */
export const DROPPED_STREAMS_MS = 10_000;

export interface LeaseLimits {
  /** Requests that may wait for one revision. */
  maxWaitingPerFunction: number;
  /** Requests that may wait in all. */
  maxWaiting: number;
}

export interface LeaseTableOptions<C extends Connection> {
  clock: Clock;
  limits: LeaseLimits;
  connect: (instance: string, address: Address) => C;
  /** False while the link is down: then nothing was sent and nothing is to be forgotten. */
  send: (message: GatewayMessage) => boolean;
}

export type Acquired<C extends Connection> = HeldLease<C> | 'waiting' | 'queue-full' | 'too-many-requests';

export class LeaseTable<C extends Connection> {
  readonly #clock: Clock;
  readonly #limits: LeaseLimits;
  readonly #send: LeaseTableOptions<C>['send'];
  readonly #demands = new Map<string, Demand<C>>();
  readonly #leases = new Map<string, HeldLease<C>>();
  readonly #reporter: WantReporter<C>;
  /** Those that the leases are of. */
  readonly instances: LeasedInstances<C>;
  /** What holds slots beyond its request. */
  readonly streams: Streams;
  #sweeping = false;
  #waiting = 0;
  #linked = false;

  constructor({ clock, limits, connect, send }: LeaseTableOptions<C>) {
    this.#clock = clock;
    this.streams = new Streams(clock);
    this.#limits = limits;
    this.#send = send;
    this.#reporter = new WantReporter(clock, send);
    const onUnanswered = (instance: Instance<C>) => {
      for (const lease of instance.leases) if (lease.state === 'revoking' && lease.inFlight === 0) this.#drained(lease);
    };
    this.instances = new LeasedInstances({ clock, connect, send, onUnanswered });
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Requests that hold a slot. */
  get inFlight(): number {
    let sum = 0;
    for (const demand of this.#demands.values()) sum += demand.inFlight;
    return sum;
  }

  get size(): number {
    return this.#leases.size;
  }

  /** [3] For hello: everything that is held or still has requests in flight. */
  held(): Lease[] {
    return [...this.#leases.values()].map((lease) => ({
      lease: lease.id,
      instance: lease.instance.id,
      revision: lease.demand.revision,
      address: lease.instance.address,
      slots: lease.slots,
    }));
  }

  /**
   * Takes a slot, or a place in the queue: at its end, or with `again` at its front, past the limits,
   * for a request that was refused by an instance and has waited its turn already.
   */
  acquire(waiter: Waiter<C>, { revision, maxSlots, desk }: Wanted<C>, again = false): Acquired<C> {
    let demand = desk?.demand ?? null;
    if (demand === null || demand.forgotten) {
      demand = this.#demand(revision);
      if (desk !== undefined) desk.demand = demand;
    }
    if (demand.waiters.size === 0 || again) {
      const lease = this.#take(demand);
      if (lease !== null) return lease;
    }
    if (again) {
      demand.waiters.pushFirst(waiter);
    } else if (this.#waiting >= this.#limits.maxWaiting) {
      return 'queue-full';
    } else if (demand.waiters.size >= this.#limits.maxWaitingPerFunction) {
      return demand.inFlight >= maxSlots ? 'too-many-requests' : 'queue-full';
    } else {
      demand.waiters.push(waiter);
    }
    this.#waiting++;
    this.#reporter.waitersChanged(demand);
    return 'waiting';
  }

  /** The waiter gives up. Nothing happens where it does not wait. */
  cancel(waiter: Waiter<C>, revision: string): void {
    const demand = this.#demands.get(revision);
    if (demand === undefined || waiter.place === null) return;
    demand.waiters.remove(waiter);
    this.#waiting--;
    this.#reporter.waitersChanged(demand);
  }

  /** Gives a slot back. `serviceMs` is how long it was taken, where that says something. */
  free(lease: HeldLease<C>, serviceMs?: number): void {
    const { demand } = lease;
    lease.inFlight--;
    demand.inFlight--;
    lease.usedAt = this.#clock.now();
    if (serviceMs !== undefined) demand.served(serviceMs);
    this.#shrunk(lease);
    if (lease.state === 'held') this.#offer(lease);
    else if (lease.inFlight === 0) this.#drained(lease);
  }

  /** [2] The instance refused before user code ran; the slot is to be freed as usual. */
  refused(lease: HeldLease<C>, why: 'full' | 'draining' | 'not-me'): void {
    if (why === 'not-me') {
      this.instances.suspect(lease.instance, 'another instance answers at its address');
    } else if (why === 'draining') {
      if (lease.state !== 'held') return;
      lease.state = 'revoking';
      // Nobody here was told of it, as when the function has drained itself: without a look it would be granted again, for ever.
      this.instances.suspect(lease.instance, 'it takes no more requests');
    } else if (!lease.pausing) {
      lease.pausing = true;
      this.#clock.after(FULL_PAUSE_MS, () => {
        lease.pausing = false;
        this.#offer(lease);
      });
    }
  }

  // What the controller says.

  /** [6] */
  grant({ lease: id, instance: instanceId, revision, address, slots }: Lease, start: StartInfo): void {
    if (this.#leases.has(id)) return;
    const instance = this.instances.granted(instanceId, address);
    const demand = this.#demand(revision);
    const lease: HeldLease<C> = {
      id,
      instance,
      demand,
      slots,
      inFlight: 0,
      state: 'held',
      pausing: false,
      shrinking: false,
      stacked: false,
      usedAt: this.#clock.now(),
    };
    instance.leases.add(lease);
    demand.leases.add(lease);
    this.#leases.set(id, lease);
    this.#offer(lease, start);
  }

  /** [8] */
  revoke(id: string, slots: number, deadlineMs: number): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    if (slots > 0) {
      lease.slots = Math.min(lease.slots, slots);
      lease.shrinking = true;
      this.#shrunk(lease);
      this.streams.revoked(lease, deadlineMs);
      return;
    }
    lease.state = 'revoking';
    this.streams.revoked(lease, deadlineMs);
    if (lease.inFlight === 0) this.#drained(lease);
  }

  /** [9] */
  gone(instanceId: string, cause: Cause): void {
    this.instances.gone(instanceId, cause, (lease) => this.#forget(lease));
  }

  /** [10] */
  clear(instanceId: string): void {
    for (const lease of this.instances.clear(instanceId)?.leases ?? []) this.#offer(lease);
  }

  /** Every waiter of the revision fails with this problem. */
  fail(revision: string, problem: Problem, retryAfterSeconds: number | undefined): void {
    const demand = this.#demands.get(revision);
    if (demand === undefined) return;
    // Those that wait now: one that asks again while it is told must not be told twice.
    for (let left = demand.waiters.size; left > 0; left--) {
      const waiter = demand.waiters.shift();
      if (waiter === null) break;
      this.#waiting--;
      waiter.onFail(problem, retryAfterSeconds);
    }
    this.#reporter.waitersChanged(demand);
  }

  /** [15] The function of these waiters is routed elsewhere. */
  reroute(revision: string): void {
    const demand = this.#demands.get(revision);
    if (demand === undefined) return;
    for (let left = demand.waiters.size; left > 0; left--) {
      const waiter = demand.waiters.shift();
      if (waiter === null) break;
      this.#waiting--;
      waiter.onReroute();
    }
    this.#reporter.waitersChanged(demand);
  }

  /** [3] [5] After welcome: what is not kept is dropped, and demand and suspicion are told again. */
  linkUp(keep: readonly string[]): void {
    this.#linked = true;
    const kept = new Set(keep);
    for (const lease of this.#leases.values()) if (!kept.has(lease.id)) this.#drop(lease);
    this.instances.tellSuspicions();
    for (const lease of this.#leases.values()) {
      // What it was to shrink to, hello has told.
      lease.shrinking = false;
      if (lease.state === 'revoking' && lease.inFlight === 0) this.#drained(lease);
    }
    for (const demand of this.#demands.values()) {
      demand.told = { waiting: 0, inFlight: 0 };
      if (demand.waiters.size > 0 || demand.inFlight > 0) this.#reporter.report(demand);
    }
  }

  /** [13] What is held is kept. */
  linkDown(): void {
    this.#linked = false;
  }

  /** Gives every lease back that nobody uses, and every other one when it is drained. */
  releaseAll(): void {
    for (const lease of this.#leases.values()) {
      lease.state = 'revoking';
      if (lease.inFlight === 0) this.#drained(lease);
    }
  }

  #demand(revision: string): Demand<C> {
    let demand = this.#demands.get(revision);
    if (demand === undefined) {
      demand = new Demand(revision);
      this.#demands.set(revision, demand);
      this.#scheduleSweep();
    }
    return demand;
  }

  #usable(lease: HeldLease<C>): boolean {
    return lease.state === 'held' && lease.inFlight < lease.slots && !lease.pausing && lease.instance.suspect === null;
  }

  #take(demand: Demand<C>): HeldLease<C> | null {
    const { free } = demand;
    for (let lease = free.at(-1); lease !== undefined; lease = free.at(-1)) {
      if (!this.#usable(lease)) {
        lease.stacked = false;
        free.pop();
        continue;
      }
      lease.inFlight++;
      demand.inFlight++;
      if (demand.inFlight > demand.peak) demand.peak = demand.inFlight;
      return lease;
    }
    return null;
  }

  /** The lease has a slot that may be free: to those who wait, or onto the stack. */
  #offer(lease: HeldLease<C>, start: StartInfo | null = null): void {
    if (!this.#usable(lease)) return;
    const { demand } = lease;
    if (!lease.stacked) {
      lease.stacked = true;
      demand.free.push(lease);
    }
    if (demand.waiters.size === 0) return;
    for (let waiter = demand.waiters.first; waiter !== null; waiter = demand.waiters.first) {
      const taken = this.#take(demand);
      if (taken === null) break;
      demand.waiters.remove(waiter);
      this.#waiting--;
      waiter.onLease(taken, taken === lease ? start : null);
    }
    this.#reporter.waitersChanged(demand);
  }

  /** [8] The controller hears of it when no more is in flight than a partial revoke left. */
  #shrunk(lease: HeldLease<C>): void {
    if (!lease.shrinking || lease.state === 'void' || lease.inFlight > lease.slots || !this.#linked) return;
    lease.shrinking = false;
    this.#send({ type: 'release', lease: lease.id, slots: lease.slots });
  }

  /** [7] Forgotten first, then released. While the link is down it is kept: nobody could be told; while it is asked for its end, too [9]. */
  #drained(lease: HeldLease<C>): void {
    if (lease.state !== 'void' && (!this.#linked || lease.instance.askingWhy.size > 0)) return;
    if (lease.state === 'void') {
      this.instances.closeIfDone(lease.instance);
      return;
    }
    this.#forget(lease);
    this.#send({ type: 'release', lease: lease.id });
    this.instances.closeIfDone(lease.instance);
  }

  /** [3] No new use, no release. */
  #drop(lease: HeldLease<C>): void {
    this.#forget(lease);
    this.streams.revoked(lease, DROPPED_STREAMS_MS);
    this.instances.closeIfDone(lease.instance);
  }

  #forget(lease: HeldLease<C>): void {
    lease.state = 'void';
    this.#leases.delete(lease.id);
    lease.demand.leases.delete(lease);
    if (lease.stacked) {
      lease.stacked = false;
      lease.demand.free.splice(lease.demand.free.indexOf(lease), 1);
    }
    // Its instance keeps it until nothing is in flight: see closeIfDone.
  }

  #sweep(): void {
    const unusedSince = this.#clock.now() - UNUSED_RELEASE_MS;
    for (const demand of this.#demands.values()) {
      if (this.#linked) {
        const releasing = demand.hasUnused(unusedSince);
        if (demand.look(releasing)) this.#reporter.report(demand);
        if (releasing) for (const lease of demand.leases) if (isUnused(lease, unusedSince)) this.#drained(lease);
      }
      demand.peak = demand.inFlight;
      if (demand.over) this.#forgetDemand(demand);
    }
    this.#sweeping = false;
    if (this.#demands.size > 0) this.#scheduleSweep();
  }

  #forgetDemand(demand: Demand<C>): void {
    demand.forgotten = true;
    this.#demands.delete(demand.revision);
  }

  #scheduleSweep(): void {
    if (this.#sweeping) return;
    this.#sweeping = true;
    this.#clock.after(SWEEP_MS, () => this.#sweep());
  }
}
