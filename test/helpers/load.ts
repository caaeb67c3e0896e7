/**
 * Load with a ledger: every request has an id that the function writes back, so that afterwards it
 * is known what was lost, what ran twice, and when it was well again. A run in which everything
 * failed must not pass, so the ledger demands successes and an all-good tail.
 */
import { Agent } from 'node:http';
import { call } from './http.ts';
import { sleep, waitFor } from './wait.ts';

/** For the tail of a load, ms: a machine that is that slow is ill itself. */
const TAIL_TIMEOUT_MS = 60_000;

export interface LedgerEntry {
  id: string;
  /** performance.now() at sending and at the end. */
  from: number;
  to: number;
  /** HTTP status, or 0 where the connection failed. */
  status: number;
  /** Problem code, or what the connection said. */
  code: string;
  /** What the function answered, on 200. */
  body: string;
}

export interface LoadOptions {
  /** URL for a request; the id is in it so that the function can tell it. */
  url: (id: string) => string;
  /** Requests at a time. */
  connections: number;
  /** Pause of each connection between two requests, ms. */
  pauseMs?: number;
  timeoutMs?: number;
  /** False: a new connection for each request. Default true. */
  agentKeepAlive?: boolean;
}

let loads = 0;

/** Runs until stop() is called. */
export class Load {
  readonly entries: LedgerEntry[] = [];
  readonly #options: LoadOptions;
  readonly #agent: Agent;
  readonly #prefix = `${process.pid}-${++loads}`;
  readonly #workers: Promise<void>[];
  /** Sent, and still waited for. */
  readonly #pending = new Set<LedgerEntry>();
  #next = 0;
  #running = true;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#agent = new Agent({ keepAlive: options.agentKeepAlive ?? true, maxSockets: options.connections });
    this.#workers = Array.from({ length: options.connections }, () => this.#work());
  }

  async #work(): Promise<void> {
    while (this.#running) {
      const entry: LedgerEntry = { id: `${this.#prefix}-${this.#next++}`, from: performance.now(), to: 0, status: 0, code: '', body: '' };
      this.#pending.add(entry);
      try {
        const answer = await call(this.#options.url(entry.id), { agent: this.#agent, timeoutMs: this.#options.timeoutMs ?? 40_000 });
        entry.status = answer.status;
        entry.body = answer.text;
        if (answer.headers['content-type']?.includes('problem+json')) entry.code = answer.json<{ code: string }>().code;
      } catch (error) {
        entry.code = (error as NodeJS.ErrnoException).code ?? String(error);
      }
      entry.to = performance.now();
      this.#pending.delete(entry);
      this.entries.push(entry);
      if (this.#options.pauseMs !== undefined) await sleep(this.#options.pauseMs);
    }
  }

  /** Lets it run for a while. */
  async during(ms: number): Promise<void> {
    await sleep(ms);
  }

  /**
   * Lets it run until so many are well that were sent after `faultAt` and the last failure: a tail is as long on a slow machine.
   * What is under way when it is asked for ends first: it may hang since the fault, and be the failure that the tail comes after.
   */
  async tail(least: number, faultAt = 0): Promise<void> {
    const underWay = [...this.#pending];
    const ended = () => !underWay.some((entry) => this.#pending.has(entry));
    await waitFor(`a tail of ${least} good answers`, () => ended() && judge(this.entries, { faultAt }).goodTail >= least, {
      timeoutMs: TAIL_TIMEOUT_MS,
      everyMs: 100,
    }).catch(() => {
      // How long it is is asserted by who judges.
    });
  }

  async stop(): Promise<LedgerEntry[]> {
    this.#running = false;
    await Promise.all(this.#workers);
    this.#agent.destroy();
    return this.entries;
  }
}

export const failures = (entries: readonly LedgerEntry[]): LedgerEntry[] => entries.filter(({ status }) => status !== 200);

/** When a fault struck, and when it was seen to be over; performance.now(). */
export interface Blow {
  from: number;
  to: number;
}

/**
 * Failures that no blow accounts for: requests that were sent when the last one was over, or had ended before the next. What is
 * asked so is what a limit in seconds could only guess at: that nothing fails any more once all is well.
 */
export const unexplained = (entries: readonly LedgerEntry[], blows: readonly Blow[]): LedgerEntry[] =>
  failures(entries).filter(({ from, to }) => !blows.some((blow) => from <= blow.to && to >= blow.from));

/** Answers that carry another request's id, or none: functions of these suites answer with the id first. */
export const misdirected = (entries: readonly LedgerEntry[]): LedgerEntry[] =>
  entries.filter(({ status, id, body }) => status === 200 && body.split(' ')[0] !== id);

/** `{"502 function-crashed": 3}`: what went wrong, counted. */
export function tally(entries: readonly LedgerEntry[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status, code } of failures(entries)) counts[`${status} ${code}`.trim()] = (counts[`${status} ${code}`.trim()] ?? 0) + 1;
  return counts;
}

export interface Verdict {
  sent: number;
  ok: number;
  failed: Record<string, number>;
  /** Whether functions told what they saw: without it nothing is known of the next two. */
  seen: boolean;
  /** Ids of ours that the function saw more than once. */
  duplicated: string[];
  /** Ids answered with 200 that the function never saw. */
  lost: string[];
  /** From the fault until all that was sent later was answered with 200, ms. */
  recoveryMs: number;
  /** Requests sent after it was well again, all good. */
  goodTail: number;
}

/** Judges a ledger against the ids that the function saw, and the time of the fault. */
export function judge(entries: readonly LedgerEntry[], { faultAt, seen }: { faultAt: number; seen?: Iterable<string> }): Verdict {
  const counts = new Map<string, number>();
  const ours = new Set(entries.map(({ id }) => id));
  for (const id of seen ?? []) if (ours.has(id)) counts.set(id, (counts.get(id) ?? 0) + 1);
  const bad = failures(entries);
  const wellAt = Math.max(faultAt, ...bad.map((entry) => entry.to));
  return {
    sent: entries.length,
    ok: entries.length - bad.length,
    failed: tally(entries),
    seen: seen !== undefined,
    duplicated: [...counts].filter(([, count]) => count > 1).map(([id]) => id),
    lost: seen ? entries.filter(({ status, id }) => status === 200 && !counts.has(id)).map(({ id }) => id) : [],
    recoveryMs: Math.round(wellAt - faultAt),
    goodTail: entries.filter(({ from, status }) => from >= wellAt && status === 200).length,
  };
}
