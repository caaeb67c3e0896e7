/**
 * Events on their way into the store: all of one turn of the event loop in one commit. Where their function has a
 * free slot they are claimed in the same commit, and delivered while their sender is told that they are safe.
 */
import { FnError } from '#contract/errors.ts';
import type { Clock } from '#kit/clock.ts';
import type { EnqueueOutcome, EventStore, NewEvent } from '../store/events.ts';
import type { FunctionTable } from './functions.ts';
import type { Lane } from './lane.ts';
import type { EventQueue } from './queue.ts';

/** Most of one commit. */
const MAX_BATCH = 500;
/** Their payloads, bytes. */
const MAX_BATCH_BYTES = 32 * 1024 * 1024;
/** What waits to be committed, bytes; beyond it senders are told to come again. */
const MAX_PENDING_BYTES = 128 * 1024 * 1024;
/** After so long senders whose queue is full may try again, seconds. */
const BACKLOG_RETRY_SECONDS = 5;
/** A disk that is full is not empty soon. */
const DISK_RETRY_SECONDS = 30;

interface Pending {
  event: NewEvent;
  resolve: (outcome: EnqueueOutcome) => void;
  reject: (error: unknown) => void;
  /** Where a slot is reserved for it: of this very lane, though its function be deleted and made anew meanwhile. */
  reserved?: Lane;
}

export interface IntakeOptions {
  store: Pick<EventStore, 'enqueue' | 'hasRoom'>;
  queue: EventQueue;
  functions: FunctionTable;
  clock: Clock;
}

export class Intake {
  readonly #options: IntakeOptions;
  #pending: Pending[] = [];
  #pendingBytes = 0;
  #scheduled = false;
  #flushing = false;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /**
   * Durable when it resolves. Throws FnError backlog-full, events-unavailable (nothing can be accepted now), store-unavailable
   * (then it may be there all the same: repeat it under its id or its key).
   */
  async enqueue(event: NewEvent): Promise<EnqueueOutcome> {
    const { queue, store } = this.#options;
    if (queue.owner === null) throw new FnError('events-unavailable', 'The store of events cannot be reached.', { retryAfterSeconds: 1 });
    if (this.#pendingBytes > MAX_PENDING_BYTES)
      throw new FnError('events-unavailable', 'More events come than the store takes.', { retryAfterSeconds: 1 });
    queue.checkForgotten(event);
    this.#checkRoom(queue.lanes.of(event));
    if (!store.hasRoom()) {
      const detail = 'The disk of the store of events is nearly full; nothing was accepted.';
      throw new FnError('events-unavailable', detail, { retryAfterSeconds: DISK_RETRY_SECONDS });
    }
    this.#pendingBytes += event.payload.length;
    const outcome = new Promise<EnqueueOutcome>((resolve, reject) => {
      this.#pending.push({ event, resolve, reject });
    });
    this.#schedule();
    return outcome;
  }

  #checkRoom(lane: Lane): void {
    const most = this.#options.functions.get(lane.namespace, lane.name)?.async.maxQueued ?? Infinity;
    if (lane.sends || lane.waiting < most) return;
    throw new FnError('backlog-full', `${lane.waiting} invocations of ${lane.name} wait, and no more than ${most} may.`, {
      retryAfterSeconds: BACKLOG_RETRY_SECONDS,
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#flushing) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    this.#flushing = true;
    while (this.#pending.length > 0) await this.#commit(this.#take());
    this.#flushing = false;
  }

  #take(): Pending[] {
    let bytes = 0;
    let count = 0;
    while (count < this.#pending.length && count < MAX_BATCH && (count === 0 || bytes < MAX_BATCH_BYTES)) {
      bytes += this.#pending[count]!.event.payload.length;
      count += 1;
    }
    const batch = this.#pending.slice(0, count);
    this.#pending = this.#pending.slice(count);
    this.#pendingBytes -= bytes;
    return batch;
  }

  async #commit(batch: readonly Pending[]): Promise<void> {
    const { queue, clock } = this.#options;
    const { owner } = queue;
    const now = clock.wall();
    const direct: Pending[] = [];
    const waiting: Pending[] = [];
    // Once one of a lane has to wait, those behind it do, too: they keep their order.
    const behind = new Set<string>();
    for (const one of batch) {
      const { event } = one;
      const lane = queue.lanes.of(event);
      if (owner !== null && !behind.has(event.lane) && event.dueAt <= now && queue.reserve(lane)) direct.push({ ...one, reserved: lane });
      else {
        behind.add(event.lane);
        waiting.push(one);
      }
    }
    queue.nudge();
    await Promise.all([this.#store(direct, now, owner ?? undefined), this.#store(waiting, now, undefined)]);
  }

  async #store(batch: readonly Pending[], now: number, owner: string | undefined): Promise<void> {
    if (batch.length === 0) return;
    const { store, queue } = this.#options;
    const events = batch.map(({ event }) => event);
    let outcomes: EnqueueOutcome[];
    try {
      outcomes = await store.enqueue(events, now, owner);
    } catch (error) {
      for (const { reserved } of batch) if (reserved !== undefined) reserved.reserved -= 1;
      // They may be there, and claimed: whoever comes after this name gets them.
      if (owner !== undefined) queue.ownership.doubt(owner);
      for (const { reject } of batch) reject(error);
      return;
    }
    for (const [index, { event, resolve, reject, reserved }] of batch.entries()) {
      if (reserved !== undefined) reserved.reserved -= 1;
      const outcome = outcomes[index];
      if (outcome === undefined) reject(new FnError('store-unavailable', 'The store of events did not say what became of an event.'));
      else {
        this.#enqueued(event, outcome, owner);
        resolve(outcome);
      }
    }
  }

  #enqueued(event: NewEvent, outcome: EnqueueOutcome, owner: string | undefined): void {
    const { queue } = this.#options;
    const lane = queue.lanes.of(event);
    if (outcome.outcome !== 'enqueued') return;
    lane.arrived();
    if (outcome.claim !== null && owner !== undefined) queue.begin(outcome.claim, owner);
    else {
      queue.lanes.waits(lane, event.dueAt);
      queue.activeAt = this.#options.clock.wall();
    }
  }
}
