/** One lane as the dispatcher sees it: what waits, what runs, how fast it goes, and how many may run at a time. */
import type { LaneInfo, NewEvent } from '../store/events.ts';
import { wantedCalls } from '../core/backlog.ts';
import type { FunctionTable } from './functions.ts';

/** Sends to destinations of a function at a time. */
export const SENDS_AT_A_TIME = 8;
/** Calls that take less are claimed ahead, ms; longer ones would be held for nothing. */
const AHEAD_BELOW_MS = 250;
/** Of lanes with so many slots: with fewer there is nothing to win. */
const AHEAD_FROM = 4;
/** Weight of the newest in moving averages of service time, and of arrivals per decision. */
const SERVICE_WEIGHT = 0.1;
const ARRIVAL_WEIGHT = 0.3;

/** The lane of a function's own invocations. */
export const functionLane = (namespace: string, name: string): string => `${namespace}/${name}`;
/** Of what is to be sent to its destinations. */
export const sendLane = (namespace: string, name: string): string => `${namespace}/${name}>`;
/** Of a trigger that may make fewer calls at a time than the function. */
export const triggerLane = (namespace: string, name: string, trigger: string): string => `${namespace}/${name}:${trigger}`;

export class Lane {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  /** Its events go to destinations, not to the function. */
  readonly sends: boolean;
  readonly #trigger: string | null;
  /** Queued and retrying, due or not, as far as is known here. */
  waiting = 0;
  dead = 0;
  /** Of the oldest that is due, as it was counted last; null: none is. */
  oldestAt: number | null = null;
  /** When the first of it may be claimed, as it was counted last. */
  nextAt: number | null = null;
  /** Claims that are not settled yet, and their payloads, bytes. */
  held = 0;
  heldBytes = 0;
  /** Deliveries that go on. */
  running = 0;
  /** What is claimed and waits for a slot: how it begins. */
  readonly buffered: (() => void)[] = [];
  /** Slots that a claim was asked for and has not answered. */
  reserved = 0;
  /** Something may be due. */
  due = false;
  /** Deliveries at a time, as was decided last. */
  allowed = 1;
  readonly counts = { succeeded: 0, failed: 0, deadLettered: 0 };
  #serviceMs = 0;
  #arrived = 0;
  #arrivalsPerSecond = 0;
  #saturated = false;
  #pushedBack = false;

  constructor({ lane, namespace, name }: Pick<NewEvent, 'lane' | 'namespace' | 'name'>) {
    this.key = lane;
    this.namespace = namespace;
    this.name = name;
    this.sends = lane.endsWith('>');
    const colon = lane.indexOf(':');
    this.#trigger = colon < 0 ? null : lane.slice(colon + 1);
  }

  /** Events of quick calls are claimed ahead, so that a slot that becomes free is used at once, and one commit claims many. */
  get #ahead(): number {
    const quick = this.#serviceMs > 0 && this.#serviceMs < AHEAD_BELOW_MS;
    return quick && this.allowed >= AHEAD_FROM ? this.allowed : 0;
  }

  /** A slot is free, and nobody has a claim to it. */
  get open(): boolean {
    return this.running + this.reserved + this.buffered.length < this.allowed;
  }

  /** As many as are to be claimed now. */
  get free(): number {
    const ahead = this.#ahead;
    const held = this.running + this.reserved + this.buffered.length;
    if (held >= this.allowed) this.#saturated = true;
    return held <= this.allowed + ahead / 2 ? Math.max(0, this.allowed + ahead - held) : 0;
  }

  /** Nothing is known to be in it. */
  get empty(): boolean {
    return this.waiting + this.running + this.reserved + this.buffered.length === 0;
  }

  arrived(): void {
    this.#arrived += 1;
  }

  /** A delivery took so long; `pushedBack`: the platform could not take it. */
  served(ms: number, pushedBack: boolean): void {
    if (pushedBack) this.#pushedBack = true;
    else this.#serviceMs = this.#serviceMs === 0 ? ms : this.#serviceMs + SERVICE_WEIGHT * (ms - this.#serviceMs);
  }

  /** As the store counts them. */
  counted({ waiting, dead, oldestAt }: Pick<LaneInfo, 'waiting' | 'dead' | 'oldestAt'>): void {
    this.oldestAt = oldestAt;
    this.waiting = waiting;
    this.dead = dead;
  }

  limits(functions: FunctionTable): { least: number; most: number } {
    if (this.sends) return { least: SENDS_AT_A_TIME, most: SENDS_AT_A_TIME };
    const of = functions.get(this.namespace, this.name);
    if (of === null) return { least: 1, most: 1 };
    const trigger = this.#trigger === null ? undefined : of.triggers.find(({ name }) => name === this.#trigger);
    const asked = trigger === undefined ? of.async.concurrency : 'concurrency' in trigger ? trigger.concurrency : null;
    const most = Math.max(1, asked ?? of.maxSlots);
    return { least: Math.min(most, of.instanceSlots), most };
  }

  /** How many may run at a time from now on. What was refused for want of capacity halves it; else it follows the backlog. */
  decide(functions: FunctionTable, elapsedMs: number): void {
    const { least, most } = this.limits(functions);
    const rate = (this.#arrived * 1_000) / Math.max(1, elapsedMs);
    this.#arrivalsPerSecond += ARRIVAL_WEIGHT * (rate - this.#arrivalsPerSecond);
    this.#arrived = 0;
    if (this.#pushedBack) this.allowed = Math.max(1, Math.min(most, Math.floor(this.allowed / 2)));
    else {
      this.allowed = wantedCalls({
        lag: this.waiting,
        perCall: 1,
        arrivalsPerSecond: this.#arrivalsPerSecond,
        serviceMs: this.#serviceMs,
        current: this.allowed,
        saturated: this.#saturated,
        // What was pushed back comes up again step by step.
        least: Math.min(least, this.allowed * 2),
        most,
      });
    }
    this.#pushedBack = false;
    this.#saturated = false;
  }
}
