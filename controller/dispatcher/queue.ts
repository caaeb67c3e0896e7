/**
 * The queue of events: takes them into the store, claims what is due where a slot is free, has it worked on, and settles.
 * What waits is in the store; here are only what is claimed, and counts.
 */
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { MAX_ERROR_DETAIL } from '../core/events.ts';
import type { Claim, EventStore, NewEvent, Settlement } from '../store/events.ts';
import { Forgetting } from './forgetting.ts';
import type { FunctionTable } from './functions.ts';
import type { Lane } from './lane.ts';
import { DECIDE_EVERY_MS, Lanes, type Want } from './lanes.ts';
import { messageOf, Ownership } from './ownership.ts';
import { Settler } from './settler.ts';

/** Claims at a time, those that wait to be settled included. */
const MAX_HELD = 2_000;
/** Their payloads, bytes. */
const MAX_HELD_BYTES = 128 * 1024 * 1024;
/** Most of one round of claims. */
const MAX_CLAIMS = 256;
/** How often all lanes are looked at for what could not be seen to become due, ms. */
const LOOK_EVERY_MS = 1_000;
/** How often lanes are counted anew, ms: what a dispatcher that is just being replaced has enqueued is seen then. Stores keep the counts. */
const RECOUNT_EVERY_MS = 5_000;

/** What could not be worked on for a fault of ours is tried again after so long, ms, and so often. */
const BROKEN_RETRY_MS = 60_000;
const BROKEN_ATTEMPTS = 10;
/** Then it is a dead letter for so long, ms. */
const BROKEN_KEPT_MS = 1_209_600_000;

/** What is to become of a claim. */
export interface Worked {
  /** null: nothing is to be said; somebody else has (it was cancelled, or another owner has it). */
  settlement: Settlement | null;
  /** The platform could not take it: less at a time. */
  pushedBack: boolean;
  /** Its function is gone, and all of its events with it. */
  forget: boolean;
}

export type Worker = (claim: Claim, lane: Lane, signal: AbortSignal) => Promise<Worked>;

export interface QueueOptions {
  store: EventStore;
  functions: FunctionTable;
  work: Worker;
  clock: Clock;
  log: Log;
}

interface Held {
  claim: Claim;
  owner: string;
  lane: Lane;
  abort: AbortController;
  /** Its slot is there. */
  begun: boolean;
}

/** The same event can be claimed anew while an old claim of it still ends. */
const keyOf = ({ id, fence }: Claim): string => `${id} ${fence}`;

export class EventQueue {
  readonly #options: QueueOptions;
  readonly lanes: Lanes;
  readonly ownership: Ownership;
  readonly #settler: Settler;
  /** What is claimed, delivered or not, until it is settled. */
  readonly #held = new Map<string, Held>();
  #heldBytes = 0;
  readonly #forgetting: Forgetting;
  #claiming = false;
  #again = false;
  #scheduled = false;
  #draining = false;
  #recounted: Promise<void> = Promise.resolve();
  #recountWaits = false;
  readonly #cancels: (() => void)[] = [];
  /** When something was enqueued or claimed last, of the wall clock. */
  activeAt: number;

  constructor(options: QueueOptions) {
    this.#options = options;
    const { store, clock, log, functions } = options;
    this.activeAt = clock.wall();
    this.lanes = new Lanes({ functions, clock, onDue: () => this.#wake() });
    this.#settler = new Settler({ store, clock, log });
    this.#forgetting = new Forgetting({ store, clock, log, onForgotten: (namespace, name) => this.lanes.forget(namespace, name) });
    this.ownership = new Ownership({
      store,
      clock,
      log,
      events: {
        onLost: (owner) => this.#abandon((one) => one.owner === owner),
        onFreed: () => this.#recount(),
        onJoined: () => {
          this.lanes.lookEverywhere();
        },
        inUse: (owner) => [...this.#held.values()].some((one) => one.owner === owner),
      },
    });
  }

  /** Resolves when claims can be made. Tries for as long as the store is away. */
  async start(owner: string, retired: readonly string[]): Promise<void> {
    await this.ownership.start(owner, retired);
    await this.#recount();
    this.#every(LOOK_EVERY_MS, () => this.lanes.lookEverywhere());
    this.#every(RECOUNT_EVERY_MS, () => void this.#recount());
    this.#every(DECIDE_EVERY_MS, () => this.lanes.decide());
  }

  get held(): number {
    return this.#held.size;
  }

  /** Nothing can be accepted or claimed: the store is away, or this dispatcher ends. */
  get owner(): string | null {
    return this.#draining || this.#settler.blocked ? null : this.ownership.current;
  }

  /** Whether what is enqueued in this lane now may be claimed with it: then it overtakes nobody. Reserves the slot. */
  reserve(lane: Lane): boolean {
    if (this.owner === null || lane.due || this.#room(lane) <= 0 || !lane.open) return false;
    lane.reserved += 1;
    return true;
  }

  /** What is to be settled goes into the commit that is just being made. */
  nudge(): void {
    this.#settler.nudge();
  }

  #full(): boolean {
    return this.#held.size >= MAX_HELD || this.#heldBytes >= MAX_HELD_BYTES;
  }

  /** How many more of a lane may be claimed: it never has more than is left for all the others, so that none takes every place. */
  #room(lane: Lane): number {
    if (lane.heldBytes >= MAX_HELD_BYTES - this.#heldBytes) return 0;
    return MAX_HELD - this.#held.size - lane.held - lane.reserved;
  }

  /** Has a claimed event worked on: at once where a slot is free. */
  begin(claim: Claim, owner: string): void {
    const lane = this.lanes.of(claim.event);
    this.activeAt = this.#options.clock.wall();
    const one: Held = { claim, owner, lane, abort: new AbortController(), begun: false };
    this.#held.set(keyOf(claim), one);
    this.#heldBytes += claim.event.payload.length;
    lane.held += 1;
    lane.heldBytes += claim.event.payload.length;
    const run = () => {
      lane.running += 1;
      one.begun = true;
      void this.#run(one);
    };
    if (lane.running < lane.allowed) run();
    else lane.buffered.push(run);
  }

  #every(ms: number, run: () => void): void {
    const slot = this.#cancels.length;
    const again = () => {
      this.#cancels[slot] = this.#options.clock.after(ms, () => {
        run();
        again();
      });
    };
    again();
  }

  #wake(): void {
    if (this.#scheduled || this.#draining) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      void this.#claim();
    });
  }

  async #claim(): Promise<void> {
    if (this.#claiming) {
      this.#again = true;
      return;
    }
    this.#claiming = true;
    do {
      this.#again = false;
      const { owner } = this;
      const wants =
        owner === null || this.#full()
          ? []
          : this.lanes.wants(Math.min(MAX_CLAIMS, MAX_HELD - this.#held.size), (lane) => this.#room(lane));
      if (owner === null || wants.length === 0) break;
      if (await this.#claimFrom(owner, wants)) this.#again = true;
    } while (this.#again);
    this.#claiming = false;
  }

  /** Whether there was as much as was asked for somewhere, so that there may be more. */
  async #claimFrom(owner: string, wants: readonly Want[]): Promise<boolean> {
    const { store, clock, log } = this.#options;
    let claims: Claim[] = [];
    let failed = false;
    try {
      const asked = wants.map(({ lane, limit }) => ({ lane: lane.key, limit }));
      // In the same commit, and before it: what is settled may let the next of its key go.
      this.#settler.nudge();
      claims = await store.claim(owner, asked, clock.wall());
    } catch (error) {
      failed = true;
      log.warn({ error: messageOf(error) }, 'events cannot be claimed now');
      // Some may have been claimed all the same, and nobody knows which.
      this.ownership.doubt(owner);
    }
    const counts = new Map<string, number>();
    for (const { event } of claims) counts.set(event.lane, (counts.get(event.lane) ?? 0) + 1);
    let more = false;
    for (const { lane, limit } of wants) {
      const got = counts.get(lane.key) ?? 0;
      lane.reserved -= limit;
      lane.waiting = Math.max(0, lane.waiting - got);
      if (failed || got >= limit) lane.due = true;
      if (got >= limit && lane.free > 0) more = true;
    }
    for (const claim of claims) this.begin(claim, owner);
    return more && !failed;
  }

  async #run(one: Held): Promise<void> {
    const { claim, lane } = one;
    const { clock } = this.#options;
    const startedAt = clock.now();
    const worked = await this.#work(one);
    lane.running -= 1;
    lane.served(clock.now() - startedAt, worked.pushedBack);
    // Its slot is free for the next one while this one is settled.
    while (!this.#draining && lane.running < lane.allowed && lane.buffered.length > 0) lane.buffered.shift()?.();
    this.#continue(lane);
    if (worked.forget) await this.forget(claim.event.namespace, claim.event.name);
    else if (worked.settlement !== null) await this.#settle(one, worked.settlement);
    this.#held.delete(keyOf(claim));
    this.#heldBytes -= claim.event.payload.length;
    lane.held -= 1;
    lane.heldBytes -= claim.event.payload.length;
    this.#continue(lane);
  }

  async #work({ claim, lane, abort }: Held): Promise<Worked> {
    // It was cancelled while it waited for its slot, say.
    if (abort.signal.aborted) return { settlement: null, pushedBack: false, forget: false };
    try {
      return await this.#options.work(claim, lane, abort.signal);
    } catch (error) {
      // A bug of ours must neither lose the event nor bring it back at once, for ever.
      const why = error instanceof Error ? error.stack : String(error);
      this.#options.log.error({ event: claim.id, lane: lane.key, error: why }, 'an event could not be worked on');
      return { settlement: this.#broken(claim, error), pushedBack: false, forget: false };
    }
  }

  #broken(claim: Claim, error: unknown): Settlement {
    const at = this.#options.clock.wall();
    const failed = {
      id: claim.id,
      fence: claim.fence,
      at,
      attempt: { request: null, revision: null },
      counted: true,
      error: { code: 'internal', detail: messageOf(error).slice(0, MAX_ERROR_DETAIL), status: null },
    };
    const dueAt = at + BROKEN_RETRY_MS;
    if (claim.attempts + 1 < BROKEN_ATTEMPTS && dueAt < claim.event.expiresAt) return { ...failed, outcome: 'retry', dueAt };
    return { ...failed, outcome: 'dead', reason: 'attempts', result: null, resultInfo: null, keptUntil: at + BROKEN_KEPT_MS };
  }

  #continue(lane: Lane): void {
    if (lane.due || lane.waiting > 0) this.#wake();
  }

  async #settle({ lane, claim, owner }: Held, settlement: Settlement): Promise<void> {
    const said = await this.#settler.settle(settlement, claim.event.orderKey !== null);
    // Refused: under this name it would be claimed, and worked on by nobody, for as long as that beats.
    if (said === 'unknown' && !this.#draining) this.ownership.doubt(owner);
    if (said !== 'settled') return;
    const { counts } = lane;
    switch (settlement.outcome) {
      case 'succeeded':
        counts.succeeded += 1;
        break;
      case 'retry':
        counts.failed += 1;
        this.lanes.waits(lane, settlement.dueAt);
        break;
      case 'dead':
        counts.failed += 1;
        counts.deadLettered += 1;
        if (settlement.keptUntil > settlement.at) lane.dead += 1;
        else await this.#purge(claim.id);
        break;
      case 'released':
        this.lanes.waits(lane, claim.event.dueAt);
        break;
    }
    for (const event of settlement.following ?? []) this.lanes.waits(this.lanes.of(event), event.dueAt);
    // The next of its key was held back by it.
    if (claim.event.orderKey !== null && lane.waiting > 0) lane.due = true;
  }

  /** A dead letter that is kept elsewhere. */
  async #purge(id: string): Promise<void> {
    try {
      await this.#options.store.purge([id]);
    } catch (error) {
      this.#options.log.debug({ event: id, error: messageOf(error) }, 'a dead letter that is kept elsewhere goes a little later');
    }
  }

  // What others do to events.

  /** It was cancelled: what it does comes to nothing. */
  cancelled(event: NewEvent): void {
    const lane = this.lanes.of(event);
    const running = [...this.#held.values()].some((one) => one.claim.id === event.id);
    if (running) this.#abandon((one) => one.claim.id === event.id);
    else lane.waiting = Math.max(0, lane.waiting - 1);
    // The next of its key was held back by it.
    if (event.orderKey !== null) lane.due = true;
    this.#wake();
  }

  /** Dead letters have become events again, or are gone. */
  changed(): void {
    this.#recount();
  }

  /** The function was deleted: all of its events go, however long the store is away. Never rejects. */
  forget(namespace: string, name: string): Promise<void> {
    this.#abandon(({ lane }) => lane.namespace === namespace && lane.name === name);
    return this.#forgetting.forget(namespace, name);
  }

  forgetting(namespace: string, name: string): boolean {
    return this.#forgetting.under(namespace, name);
  }

  /** Throws FnError events-unavailable while an earlier function of its name is being forgotten. */
  checkForgotten(event: Pick<NewEvent, 'namespace' | 'name'>): void {
    this.#forgetting.check(event);
  }

  #abandon(which: (one: Held) => boolean): void {
    for (const one of this.#held.values()) if (which(one)) one.abort.abort();
  }

  /** Also heals what was counted wrongly meanwhile. One at a time. */
  #recount(): Promise<void> {
    if (this.#recountWaits) return this.#recounted;
    this.#recountWaits = true;
    this.#recounted = this.#recounted.then(async () => {
      this.#recountWaits = false;
      try {
        await this.lanes.recount(this.#options.store);
      } catch (error) {
        this.#options.log.warn({ error: messageOf(error) }, 'what waits cannot be counted now');
      }
    });
    return this.#recounted;
  }

  /** Claims no more; what runs may end within `graceMs`, the rest is left for others. Idempotent. */
  async close(graceMs: number): Promise<void> {
    this.#draining = true;
    for (const cancel of this.#cancels) cancel();
    this.lanes.close();
    const { clock } = this.#options;
    // What has not begun is left to the next dispatcher.
    for (const [key, { begun }] of this.#held) if (!begun) this.#held.delete(key);
    const until = clock.now() + graceMs;
    while (this.#held.size > 0 && clock.now() < until) await pause(clock, 20);
    this.#abandon(() => true);
    this.#settler.close();
    this.#forgetting.close();
    await this.ownership.close();
  }
}

const pause = (clock: Clock, ms: number): Promise<void> =>
  new Promise((resolve) => {
    clock.after(ms, resolve);
  });
