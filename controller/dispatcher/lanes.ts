/** All lanes that something is or was in, which of them may be claimed from, and how many of each: fair between lanes. */
import type { Clock } from '#kit/clock.ts';
import type { EventStore, LaneInfo, NewEvent } from '../store/events.ts';
import { DueTimes } from './due-times.ts';
import type { FunctionTable } from './functions.ts';
import { functionLane, Lane, triggerLane } from './lane.ts';
import type { FunctionEventStats } from './types.ts';

/** How often is decided how many may run at a time, ms. */
export const DECIDE_EVERY_MS = 500;

export interface Want {
  lane: Lane;
  limit: number;
}

export interface LanesOptions {
  functions: FunctionTable;
  clock: Clock;
  /** Something may be claimed. */
  onDue: () => void;
}

export class Lanes {
  readonly #options: LanesOptions;
  readonly #lanes = new Map<string, Lane>();
  readonly #times: DueTimes;
  /** Where the next round of claims begins, so that none is always the first. */
  #turn = 0;
  #decidedAt: number;

  constructor(options: LanesOptions) {
    this.#options = options;
    this.#decidedAt = options.clock.now();
    this.#times = new DueTimes(options.clock, (key) => {
      const lane = this.#lanes.get(key);
      if (lane === undefined) return;
      lane.due = true;
      options.onDue();
    });
  }

  get all(): Iterable<Lane> {
    return this.#lanes.values();
  }

  /** The lane of an event. */
  of(event: Pick<NewEvent, 'lane' | 'namespace' | 'name'>): Lane {
    const found = this.#lanes.get(event.lane);
    if (found !== undefined) return found;
    const lane = new Lane(event);
    lane.allowed = lane.limits(this.#options.functions).least;
    this.#lanes.set(lane.key, lane);
    return lane;
  }

  /** Those of a function: its own, its sends and its triggers'. */
  ofFunction(namespace: string, name: string): Lane[] {
    return [...this.#lanes.values()].filter((lane) => lane.namespace === namespace && lane.name === name);
  }

  /** An event waits in it from now on, due at this time. */
  waits(lane: Lane, dueAt: number): void {
    lane.waiting += 1;
    this.becomesDue(lane, dueAt);
  }

  becomesDue(lane: Lane, dueAt: number): void {
    if (dueAt <= this.#options.clock.wall()) {
      lane.due = true;
      this.#options.onDue();
    } else this.#times.add(dueAt, lane.key);
  }

  /** Events that could not be seen to become due (another's claims that ended, more delays than are kept) are looked for. */
  lookEverywhere(): void {
    for (const lane of this.#lanes.values()) if (lane.waiting > 0) lane.due = true;
    this.#options.onDue();
  }

  /** As many as `budget` of those that may be due, of a lane as many as it has `room` for, spread over the lanes; their slots are reserved. */
  wants(budget: number, room: (lane: Lane) => number): Want[] {
    const open = [...this.#lanes.values()].filter((lane) => lane.due && lane.free > 0 && room(lane) > 0);
    if (open.length === 0 || budget <= 0) return [];
    const first = this.#turn % open.length;
    this.#turn += 1;
    const share = Math.max(1, Math.floor(budget / open.length));
    const wants: Want[] = [];
    let left = budget;
    for (const lane of [...open.slice(first), ...open.slice(0, first)]) {
      const limit = Math.min(lane.free, room(lane), share, left);
      if (limit <= 0) break;
      lane.reserved += limit;
      // Set again by whoever enqueues while the claim is on its way.
      lane.due = false;
      left -= limit;
      wants.push({ lane, limit });
    }
    return wants;
  }

  decide(): void {
    const now = this.#options.clock.now();
    const elapsed = now - this.#decidedAt;
    this.#decidedAt = now;
    for (const lane of this.#lanes.values()) {
      const before = lane.allowed;
      lane.decide(this.#options.functions, elapsed);
      if (lane.allowed > before && lane.waiting > 0) this.#options.onDue();
    }
  }

  /** Counts them anew. Lanes that are empty in the store are so here, but for what runs. */
  async recount(store: Pick<EventStore, 'lanes'>): Promise<void> {
    const infos = new Map((await store.lanes(this.#options.clock.wall())).map((info) => [info.lane, info]));
    for (const info of infos.values()) this.#counted(info);
    for (const lane of this.#lanes.values()) {
      if (infos.has(lane.key)) continue;
      lane.counted({ waiting: 0, dead: 0, oldestAt: null });
      const told = lane.counts.succeeded + lane.counts.failed > 0;
      if (lane.empty && !told) this.#lanes.delete(lane.key);
    }
    this.#options.onDue();
  }

  #counted(info: LaneInfo): void {
    const lane = this.of(info);
    lane.counted(info);
    if (info.oldestAt !== null) lane.due = true;
    // The same time is kept once, however often it is counted.
    if (info.nextAt !== null && info.nextAt !== lane.nextAt) this.becomesDue(lane, info.nextAt);
    lane.nextAt = info.nextAt;
  }

  /** Times that are kept of what is to become due. */
  get times(): number {
    return this.#times.size;
  }

  forget(namespace: string, name: string): void {
    for (const lane of this.ofFunction(namespace, name)) this.#lanes.delete(lane.key);
  }

  /** The lane that an event waits in: of its trigger, where that may make fewer calls at a time than the function. */
  laneFor(namespace: string, name: string, trigger: string | null): string {
    if (trigger === null) return functionLane(namespace, name);
    const of = this.#options.functions.get(namespace, name)?.triggers.find((one) => one.name === trigger);
    const limited = of?.type === 'webhook' && of.concurrency !== null;
    return limited ? triggerLane(namespace, name, trigger) : functionLane(namespace, name);
  }

  /** Of a function, what waits for its destinations included. */
  stats(): FunctionEventStats[] {
    const byFunction = new Map<string, FunctionEventStats>();
    for (const lane of this.#lanes.values()) {
      const { namespace, name } = lane;
      const key = functionLane(namespace, name);
      let stats = byFunction.get(key);
      if (stats === undefined) {
        stats = { namespace, name, waiting: 0, running: 0, dead: 0, oldestAt: null, succeeded: 0, failed: 0, deadLettered: 0 };
        byFunction.set(key, stats);
      }
      stats.waiting += lane.waiting;
      stats.running += lane.running + lane.buffered.length;
      stats.dead += lane.dead;
      stats.deadLettered += lane.counts.deadLettered;
      if (lane.sends) continue;
      stats.oldestAt = earliest(stats.oldestAt, lane.oldestAt);
      stats.succeeded += lane.counts.succeeded;
      stats.failed += lane.counts.failed;
    }
    return [...byFunction.values()];
  }

  close(): void {
    this.#times.close();
  }
}

const earliest = (a: number | null, b: number | null): number | null => (a === null || b === null ? (a ?? b) : Math.min(a, b));
