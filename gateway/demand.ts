/** What is held for one revision and who asks for it, and how the controller is told (docs/leases.md [5]). */
import type { Problem } from '#contract/errors.ts';
import type { ControllerMessage, GatewayMessage, StartInfo } from '#contract/link.ts';
import type { Address } from '#contract/runtime.ts';
import type { Clock } from '#kit/clock.ts';
import { type Queued, WaitQueue } from './queue.ts';

/** [5] The first waiter is told at once, what follows at most this often. */
export const WANT_INTERVAL_MS = 5;
/**
 * [5] That fewer are in flight is told when it was so in this many looks in a row: of a function that is called twice a second
 * half of all looks see nothing, and a thousand such functions would say little else.
 */
export const FEWER_AFTER_LOOKS = 3;
/** Weight of the newest request in the moving average of service time. */
const SERVICE_WEIGHT = 0.1;

export type GoneMessage = Extract<ControllerMessage, { type: 'gone' }>;
export type Cause = Pick<GoneMessage, 'cause' | 'detail'>;

/** Connections to an instance; closed when the table is done with it. */
export interface Connection {
  close(): void;
}

export interface Instance<C extends Connection> {
  readonly id: string;
  readonly address: Address;
  readonly connection: C;
  readonly leases: Set<HeldLease<C>>;
  /** [10] Not used until the controller says clear. */
  suspect: string | null;
  gone: Cause | null;
  readonly askingWhy: Set<(cause: Cause | null) => void>;
}

export interface HeldLease<C extends Connection> {
  readonly id: string;
  readonly instance: Instance<C>;
  readonly demand: Demand<C>;
  slots: number;
  inFlight: number;
  /** `revoking` takes no new use and is released when drained; `void` is no lease any more. */
  state: 'held' | 'revoking' | 'void';
  /** Was partly revoked, and more than is left is in flight: the rest is not given back yet. */
  shrinking: boolean;
  /** Said `full` a moment ago. */
  pausing: boolean;
  /** Is it on the stack of leases with free slots? */
  stacked: boolean;
  usedAt: number;
}

/** [6] Has nobody used it since (monotonic ms)? Why an instance died is told to those that hold a lease of it [9]: who asks keeps it. */
export function isUnused({ inFlight, usedAt, instance }: HeldLease<Connection>, since: number): boolean {
  return inFlight === 0 && usedAt <= since && instance.suspect === null && instance.askingWhy.size === 0;
}

/** A request that wants a slot. */
export interface Waiter<C extends Connection> extends Queued {
  /** Monotonic ms at which it stops waiting; the waiter itself sees to that. */
  readonly giveUpAt: number;
  /** W3C context of the request, where the start that it may bring about is to be traced. */
  readonly cause?: string | undefined;
  /** A slot is taken for it. `start` says how the instance came to be, where the waiter waited for that. */
  onLease(lease: HeldLease<C>, start: StartInfo | null): void;
  /** No instance can be had. */
  onFail(problem: Problem, retryAfterSeconds: number | undefined): void;
  /** [15] Its function is routed elsewhere now: it has left the queue and may ask again. */
  onReroute(): void;
}

/** What a request wants a slot of. `desk`: where what is held for the revision is kept at hand. */
export interface Wanted<C extends Connection> {
  readonly revision: string;
  readonly maxSlots: number;
  readonly desk?: { demand: Demand<C> | null };
}

/** What is asked of, and held for, one revision. */
export class Demand<C extends Connection> {
  readonly revision: string;
  readonly waiters = new WaitQueue<Waiter<C>>();
  readonly leases = new Set<HeldLease<C>>();
  /** Those with a free slot, the most recently used on top. May hold stale ones, skipped when met. */
  readonly free: HeldLease<C>[] = [];
  inFlight = 0;
  /** There will be another one for its revision: whoever has it at hand looks again. */
  forgotten = false;
  /** Most in flight since the last look: a sample would miss requests shorter than its interval. */
  peak = 0;
  /** Looks in a row that saw fewer in flight than were told, and the most that they saw. */
  #fewer = 0;
  #fewerPeak = 0;
  serviceMs = 0;
  /** What the controller was told last. */
  told = { waiting: 0, inFlight: 0 };

  constructor(revision: string) {
    this.revision = revision;
  }

  /** A request was served in so many ms. */
  served(serviceMs: number): void {
    if (this.serviceMs === 0) this.serviceMs = serviceMs;
    else this.serviceMs += SERVICE_WEIGHT * (serviceMs - this.serviceMs);
  }

  /**
   * A look, some of which come each second: is the controller to be told? Of more at once; of fewer after some looks, or before
   * what is unused is `releasing`: it would be granted again for what is in flight no more.
   */
  look(releasing: boolean): boolean {
    const { told, waiters } = this;
    if (this.peak >= told.inFlight) {
      this.#fewer = 0;
      this.#fewerPeak = 0;
      return this.peak > told.inFlight || told.waiting !== waiters.size;
    }
    this.#fewerPeak = Math.max(this.#fewerPeak, this.peak);
    if (++this.#fewer < FEWER_AFTER_LOOKS && !releasing) return told.waiting !== waiters.size;
    if (!releasing) this.peak = this.#fewerPeak;
    this.#fewer = 0;
    this.#fewerPeak = 0;
    return true;
  }

  /** [6] Is a lease to be given back that nobody has used since (monotonic ms)? Not while somebody waits. */
  hasUnused(since: number): boolean {
    if (this.waiters.size > 0) return false;
    for (const lease of this.leases) if (isUnused(lease, since)) return true;
    return false;
  }

  /** Nothing is held, nobody asks, and the controller knows it. */
  get over(): boolean {
    const { waiters, leases, told } = this;
    return leases.size === 0 && waiters.size === 0 && this.inFlight === 0 && told.waiting === 0 && told.inFlight === 0;
  }
}

/** Tells the controller what is wanted, as often as it helps and no more. */
export class WantReporter<C extends Connection> {
  readonly #clock: Clock;
  readonly #send: (message: GatewayMessage) => boolean;
  readonly #changed = new Set<Demand<C>>();

  constructor(clock: Clock, send: (message: GatewayMessage) => boolean) {
    this.#clock = clock;
    this.#send = send;
  }

  /** The number of waiters may have changed. */
  waitersChanged(demand: Demand<C>): void {
    if (this.#changed.has(demand)) return;
    if (demand.told.waiting === 0 && demand.waiters.size > 0) {
      this.report(demand);
    } else if (demand.told.waiting !== demand.waiters.size) {
      if (this.#changed.size === 0) this.#clock.after(WANT_INTERVAL_MS, () => this.#reportChanged());
      this.#changed.add(demand);
    }
  }

  #reportChanged(): void {
    const changed = [...this.#changed];
    this.#changed.clear();
    for (const demand of changed) if (demand.told.waiting !== demand.waiters.size) this.report(demand);
  }

  /** While the link is down nothing is told, and remembered so. */
  report(demand: Demand<C>): void {
    const waiting = demand.waiters.size;
    const oldest = demand.waiters.first;
    const inFlight = Math.max(demand.peak, demand.inFlight);
    const traceparent = oldest?.cause;
    const sent = this.#send({
      type: 'want',
      ...(traceparent === undefined ? {} : { traceparent }),
      revision: demand.revision,
      waiting,
      inFlight,
      oldestDeadline: oldest === null ? null : Math.round(this.#clock.wall() + oldest.giveUpAt - this.#clock.now()),
      serviceMs: Math.round(demand.serviceMs * 100) / 100,
    });
    if (sent) demand.told = { waiting, inFlight };
  }
}
