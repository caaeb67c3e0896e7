/**
 * What outlives the request that began it: WebSockets and streams of events. Each holds a slot of a lease
 * for its life, and has to end when the lease does: at the deadline of a revoke [8], or when this process
 * ends. Until then it goes on.
 */
import type { Clock } from '#kit/clock.ts';

/** Why the gateway ends a stream: its lease or the gateway is going, or it is as old as it may get. */
export type StreamEnd = 'going-away' | 'maximum-age';

export interface Stream {
  /** Ends it in the way of its protocol. Called again it does nothing. */
  end(why: StreamEnd): void;
}

/** What is looked at of a lease. */
export interface StreamLease {
  readonly slots: number;
  readonly inFlight: number;
  readonly state: 'held' | 'revoking' | 'void';
}

/** Streams that are ended in one turn of the event loop: each costs some 50 µs, and others are to be served meanwhile. */
const ENDED_AT_ONCE = 64;
const BETWEEN_ENDS_MS = 5;

export class Streams {
  readonly #clock: Clock;
  readonly #all = new Set<Stream>();
  readonly #byLease = new Map<StreamLease, Set<Stream>>();
  /** Leases whose deadline has passed with more in flight than they have slots. */
  readonly #overdue = new WeakSet<StreamLease>();
  #closing = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#all.size;
  }

  /** The stream uses a slot of the lease from now on. */
  add(lease: StreamLease, stream: Stream): void {
    this.#all.add(stream);
    let streams = this.#byLease.get(lease);
    if (streams === undefined) this.#byLease.set(lease, (streams = new Set()));
    streams.add(stream);
    if (this.#closing) stream.end('going-away');
    else if (this.#overdue.has(lease)) this.#endExcess(lease);
  }

  /** It is over. Nothing happens where it was not there. */
  remove(lease: StreamLease, stream: Stream): void {
    this.#all.delete(stream);
    const streams = this.#byLease.get(lease);
    if (streams?.delete(stream) && streams.size === 0) this.#byLease.delete(lease);
  }

  /** [8] Of the lease is left what its `state` and `slots` say; whatever streams are over that have until the deadline. */
  revoked(lease: StreamLease, deadlineMs: number): void {
    if (lease.inFlight === 0) return;
    this.#clock.after(deadlineMs, () => {
      this.#overdue.add(lease);
      this.#endExcess(lease);
    });
  }

  /** Those that came first go first: they have had most of their time. */
  #endExcess(lease: StreamLease): void {
    const keeps = lease.state === 'held' ? lease.slots : 0;
    const excess = lease.inFlight - keeps;
    if (excess > 0) this.#end([...(this.#byLease.get(lease) ?? [])].slice(0, excess));
  }

  /** The process is about to end. */
  endAll(): void {
    this.#closing = true;
    this.#end([...this.#all]);
  }

  #end(streams: Stream[]): void {
    for (const stream of streams.splice(0, ENDED_AT_ONCE)) stream.end('going-away');
    if (streams.length > 0) this.#clock.after(BETWEEN_ENDS_MS, () => this.#end(streams));
  }
}
