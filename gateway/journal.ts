/**
 * What became of each request: the newest are remembered, for `fn why`, and of those that are worth it a record
 * goes to the controller, in batches. No namespace can use up what the others are due of either. A warm request that succeeds costs the filling of one place in the ring.
 */
import type { CallRecord, StartInfo } from '#contract/call.ts';
import type { EventKind } from '#contract/events-link.ts';
import { FLUSH_ONLY, type GatewayMessage } from '#contract/link.ts';
import type { Clock } from '#kit/clock.ts';
import { CallRing } from './call-ring.ts';
import type { Desk } from './desk.ts';
import { LruMap } from './lru.ts';
import type { CallTally } from './tally.ts';
import type { Timing } from './timing.ts';
import type { RequestTrace } from './trace.ts';

/** How often records are sent, ms. */
export const SHIP_EVERY_MS = 250;
/** How often counts are sent, ms, unless somebody asks: each function that was called is a line of them. */
export const COUNTS_EVERY_MS = 1_000;
/** Records of one message: with the longest texts some 2 MB, half of what the controller accepts. */
const MAX_PER_MESSAGE = 200;
/** Records that wait to be sent; of more none is kept, but for those that each namespace is due. */
const MAX_PENDING = 1_000;
/** What each namespace is due beside what all share: records per second, and of those that wait. */
const DUE_PER_SECOND = 5;
const DUE_PENDING = 20;
/** Namespaces whose due is known; beyond, that of who failed longest ago begins anew. */
const MAX_DUES = 10_000;
/** Answers to one `recall`. */
const MAX_RECALLED = 10;

/** A request that is over: the exchange itself, so that nothing is copied of those that are not remembered. */
export interface EndedCall extends Timing {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  /** That it was routed to; null where it did not come to it. */
  readonly revision: string | null;
  /** The revision's; null where nothing is kept at hand. */
  readonly desk: Desk | null;
  /** That it was with last. */
  readonly instance: string | null;
  readonly method: string;
  /** Came by TLS. */
  readonly secure: boolean;
  /** As the client sent it, with its query. */
  readonly path: string;
  /** When the head of the response came (monotonic); null where none did. */
  readonly headAt: number | null;
  /** 0: the client went away before there was one. */
  readonly status: number;
  readonly problem: { code: string; detail: string } | null;
  /** As the function got it; null where it was not sent to one. */
  readonly traceparent: string | null;
  /** Its trace: asking for it begins one where there was none. */
  readonly trace: RequestTrace;
  readonly tries: readonly { instance: string; why: string }[] | null;
  readonly aborted: boolean;
  readonly stream: 'websocket' | 'events' | null;
  /** What it is an event of; null: a client waited for the answer. */
  readonly event: EventKind | null;
}

/** Hears of every request that is over, in the moment of its end. Must be cheap, and must not throw. */
export interface CallObserver {
  ended(call: EndedCall, now: number): void;
}

export interface JournalLimits {
  /** Requests that are remembered. One takes some 400 bytes, 2 kB at most. */
  ring: number;
  /**
   * Failures, cold starts and slow requests told per second, over all namespaces; of those beyond each
   * namespace is due a few, and the others are counted only. 0: none at all.
   */
  notablePerSecond: number;
  /** Others told per second: a sample. */
  sampledPerSecond: number;
  /** From so long on a request is slow, ms. */
  slowMs: number;
}

export interface JournalOptions {
  gateway: string;
  clock: Clock;
  limits: JournalLimits;
  /** What is counted of all requests. */
  tally: CallTally;
  /** False while the link is down. */
  send: (message: GatewayMessage) => boolean;
}

/** So many a second, and so many at once. */
class Allowance {
  readonly #perSecond: number;
  #left: number;
  #at = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#left = perSecond;
  }

  take(now: number): boolean {
    if (this.#left < 1) {
      this.#left = Math.min(this.#perSecond, this.#left + ((now - this.#at) * this.#perSecond) / 1_000);
      this.#at = now;
      if (this.#left < 1) return false;
    } else if (this.#left >= this.#perSecond) {
      this.#at = now;
    }
    this.#left--;
    return true;
  }
}

/** What a namespace is due, however many records the others have. */
interface Due {
  readonly allowance: Allowance;
  pending: number;
}

export class CallJournal implements CallObserver {
  readonly #options: JournalOptions;
  readonly #ring: CallRing;
  readonly #dues = new LruMap<string, Due>(MAX_DUES);
  readonly #notable: Allowance;
  readonly #sampled: Allowance;
  #pending: CallRecord[] = [];
  #skipped = 0;
  /** Those of which records wait. */
  readonly #dueWaiting: Due[] = [];
  #scheduled = false;
  /** When counts were sent last. */
  #countedAt = Number.NEGATIVE_INFINITY;

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#ring = new CallRing(options.gateway, options.limits.ring);
    this.#notable = new Allowance(options.limits.notablePerSecond);
    this.#sampled = new Allowance(options.limits.sampledPerSecond);
  }

  ended(call: EndedCall, now: number): void {
    this.#options.tally.ended(call, now);
    const slot = this.#ring.fill(call, now, this.#options.clock.wall());
    const { slowMs } = this.#options.limits;
    const slow = this.#ring.slowness(slot) >= slowMs;
    const notable = slow || slot.problem !== null || slot.aborted || slot.status >= 500 || slot.status === 0 || isCold(slot.start);
    const shared = this.#pending.length < MAX_PENDING && (notable ? this.#notable : this.#sampled).take(now);
    if (shared || (notable && this.#isDue(call.namespace, now))) this.#pending.push(this.#ring.record(slot));
    else this.#skipped++;
    if (!this.#scheduled) this.#schedule();
  }

  /** What is remembered of an id, the newest first. It may also be the id of a trace. */
  recall(id: string): CallRecord[] {
    return this.#ring.find(id, MAX_RECALLED);
  }

  /** Tells the controller what waits to be told, and then what is remembered of an id. */
  answer(id: string): void {
    this.flush();
    if (id === FLUSH_ONLY) {
      this.#options.send({ type: 'recalled', id, calls: [] });
      return;
    }
    this.#options.send({ type: 'recalled', id, calls: this.recall(id) });
  }

  /** Sends what there is. What cannot be sent is kept for the next time. */
  flush(): void {
    this.#send(true);
  }

  #send(counts: boolean): void {
    const { tally, clock } = this.#options;
    if (counts) this.#countedAt = clock.now();
    for (let counted = counts ? tally.next() : null; this.#pending.length > 0 || this.#skipped > 0 || counted !== null; counted = null) {
      const calls = this.#pending.slice(0, MAX_PER_MESSAGE);
      if (!this.#options.send({ type: 'calls', calls, skipped: this.#skipped, ...(counted === null ? {} : { counted }) })) return;
      if (counted !== null) tally.sent();
      this.#pending = this.#pending.slice(calls.length);
      this.#skipped = 0;
    }
    for (const due of this.#dueWaiting.splice(0)) due.pending = 0;
  }

  /** The controller has a batch of counts for good. */
  counted(seq: number): void {
    this.#options.tally.acknowledged(seq);
    this.#scheduleCounts();
  }

  /** After each welcome. */
  linkUp(): void {
    this.#options.tally.linkUp();
    this.#scheduleCounts();
  }

  #scheduleCounts(): void {
    if (this.#options.tally.waits && !this.#scheduled) this.#schedule();
  }

  #isDue(namespace: string, now: number): boolean {
    if (this.#options.limits.notablePerSecond === 0) return false;
    let due = this.#dues.get(namespace);
    if (due === undefined) {
      due = { allowance: new Allowance(DUE_PER_SECOND), pending: 0 };
      this.#dues.set(namespace, due);
    }
    if (due.pending >= DUE_PENDING || !due.allowance.take(now)) return false;
    if (due.pending++ === 0) this.#dueWaiting.push(due);
    return true;
  }

  #schedule(): void {
    this.#scheduled = true;
    this.#options.clock.after(SHIP_EVERY_MS, () => {
      this.#scheduled = false;
      this.#send(this.#options.clock.now() - this.#countedAt >= COUNTS_EVERY_MS);
      if (this.#pending.length > 0 || this.#options.tally.waits) this.#schedule();
    });
  }
}

export const isCold = (start: StartInfo | null): boolean => start !== null && start.kind !== 'warm';
