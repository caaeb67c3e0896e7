/** What happened to everything that the soak sent: counts of what went well, each failure by its time, and events by their ids. */
import type { Failure } from './judge.ts';

/** Failures that are kept one by one; beyond it they are only counted. */
const MOST_FAILURES = 20_000;
/** Latest ends of requests that are told to one sample. */
const LATENCIES = 5_000;

/** Where an event that was acknowledged stands. */
export type EventState = 'pending' | 'done' | 'dead';

export interface SoakEvent {
  id: string;
  state: EventState;
  poison: boolean;
  /** How it can be asked for: the path of the invocation, or the id in the stream. */
  handle: string;
  at: number;
}

export class Book {
  readonly good: Record<string, number> = {};
  readonly bad: Record<string, number> = {};
  readonly failures: Failure[] = [];
  readonly events: Record<'async' | 'queue', Map<string, SoakEvent>> = { async: new Map(), queue: new Map() };
  /** Attempts of senders that were not acknowledged: they sent again. */
  readonly refused = { async: 0, queue: 0 };
  readonly ticks = new Map<number, number>();
  /** What the platform did twice, by kind. */
  readonly again: Record<string, number> = {};
  /** Sentences of what is wrong with an event: lost results, poison that succeeded. */
  readonly wrong: string[] = [];
  readonly #latencies: number[] = [];
  readonly #tell: (failure: Failure) => void;

  /** `tell`: hears of each failure at once, so that none is lost with the process. */
  constructor(tell: (failure: Failure) => void) {
    this.#tell = tell;
  }

  /** Runs one piece of traffic. It throws, or returns a word, where it failed. */
  async try(kind: string, run: () => Promise<string | void>): Promise<boolean> {
    const from = Date.now();
    const started = performance.now();
    let what: string | void;
    try {
      what = await run();
    } catch (error) {
      what = error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.message.slice(0, 600)) : String(error);
      what = String(what);
    }
    if (what === undefined) {
      this.good[kind] = (this.good[kind] ?? 0) + 1;
      if (kind === 'warm' && this.#latencies.length < LATENCIES) this.#latencies.push(performance.now() - started);
      return true;
    }
    this.bad[kind] = (this.bad[kind] ?? 0) + 1;
    if (this.failures.length >= MOST_FAILURES) return false;
    const failure = { kind, what, from, to: Date.now() };
    this.failures.push(failure);
    this.#tell(failure);
    return false;
  }

  /** Times of warm requests since the last time that it was asked, ms. */
  takeLatencies(): number[] {
    return this.#latencies.splice(0);
  }

  acknowledged(by: 'async' | 'queue', event: Omit<SoakEvent, 'state' | 'at'>): void {
    this.events[by].set(event.id, { ...event, state: 'pending', at: Date.now() });
  }

  /** The function says that it has done this. */
  done(by: 'async' | 'queue', id: string): void {
    const event = this.events[by].get(id);
    if (event === undefined) return this.repeated(`${by}, not acknowledged`);
    if (event.poison) this.wrong.push(`${id} is poison and was done`);
    if (event.state === 'done') this.repeated(by);
    event.state = 'done';
  }

  dead(by: 'async' | 'queue', id: string, why: string): void {
    const event = this.events[by].get(id);
    if (event === undefined) return;
    if (!event.poison && event.state !== 'dead') this.wrong.push(`${id} is a dead letter without being poison: ${why}`);
    event.state = 'dead';
  }

  repeated(kind: string): void {
    this.again[kind] = (this.again[kind] ?? 0) + 1;
  }

  pending(by: 'async' | 'queue', olderThanMs = 0): SoakEvent[] {
    const until = Date.now() - olderThanMs;
    return [...this.events[by].values()].filter(({ state, at }) => state === 'pending' && at <= until);
  }
}
