/**
 * Calls: takes what gateways tell, and explains one when asked. The journal has what was told; what was
 * not (a sample is) gateways may still remember.
 */
import type { CallList, CallQuery, CallRecord, Why } from '#contract/call.ts';
import { FnError } from '#contract/errors.ts';
import type { LogEntry } from '#contract/log.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { explain } from './explain.ts';
import { CallJournal } from './journal.ts';
import type { CallSources, CallsPort } from './types.ts';

/** Records that are kept of all gateways per second; a gateway that is no longer ours must not fill the disk. */
const MAX_PER_SECOND = 2_000;
/** Calls with one id that are looked at. */
const MAX_SAME_ID = 20;
/** Lines of the function, and of the platform, that an explanation shows. */
const MAX_LOG_LINES = 200;
const MAX_NOTES = 20;
/** Lines may be logged before the gateway's clock says so, and after the end, ms. */
const LOGS_BEFORE_MS = 1_000;
const LOGS_AFTER_MS = 60_000;
/** What the platform said about the instance is looked for so long before the call and after its end, ms. */
const NOTES_BEFORE_MS = 600_000;
const NOTES_AFTER_MS = 5_000;
/** Traces of requests that are remembered for the export of logs: some 1.3 MB. */
const MAX_TRACES = 10_000;

export interface CallsOptions {
  path: string;
  clock: Clock;
  log: Log;
  maxRecords: number;
  maxAgeMs: number;
  slowMs: number;
  /** Whether somebody asks traceOf(): lines of functions are exported. */
  traces: boolean;
}

export class Calls implements CallsPort {
  readonly #journal: CallJournal;
  readonly #clock: Clock;
  #second = 0;
  #inSecond = 0;
  /** By request; null: nobody asks. */
  readonly #traces: Map<string, string> | null;
  /** Requests that gateways told of, and those that they kept no record of. */
  readonly told = { records: 0, skipped: 0 };

  constructor(options: CallsOptions) {
    this.#clock = options.clock;
    this.#traces = options.traces ? new Map() : null;
    this.#journal = new CallJournal(options);
  }

  /** Records that were not kept. */
  get lost(): number {
    return this.#journal.lost;
  }

  /** From a gateway. What it says is data, and no more. */
  add(calls: readonly CallRecord[], skipped: number): void {
    const second = Math.floor(this.#clock.now() / 1_000);
    if (second !== this.#second) [this.#second, this.#inSecond] = [second, 0];
    const kept = calls.slice(0, Math.max(0, MAX_PER_SECOND - this.#inSecond));
    this.#inSecond += kept.length;
    this.told.records += kept.length;
    this.told.skipped += skipped + calls.length - kept.length;
    this.#journal.add(kept);
    if (this.#traces !== null) remember(this.#traces, kept);
  }

  /** Trace of a recent request, where it is known. */
  traceOf(request: string): string | undefined {
    return this.#traces?.get(request);
  }

  list(namespace: string, name: string, query: CallQuery): CallList {
    return { calls: this.#journal.list(namespace, name, query) };
  }

  /** `id` is that of a request or of a trace. Throws FnError call-not-found. */
  async why(namespace: string, id: string, sources: CallSources): Promise<Why> {
    const known = this.#journal.find(namespace, id, MAX_SAME_ID);
    const remembered = (await sources.recall(id)).filter((call) => call.namespace === namespace);
    const calls = distinct([...known, ...remembered]).toSorted((a, b) => b.t - a.t);
    const [call] = calls;
    if (call === undefined) {
      throw new FnError(
        'call-not-found',
        `There is no record of the request ${id} in namespace ${namespace}. Of requests that succeed only a sample is kept for long.`,
      );
    }
    const logs = await this.#logsOf(call, sources);
    const notes = await this.#notesOf(call, sources);
    return explain({
      call,
      logs,
      notes,
      dropped: notes.reduce((sum, entry) => sum + sources.dropped(entry), 0),
      others: calls.length - 1,
      revision: call.revision === undefined ? null : sources.revision(call.revision),
    });
  }

  #logsOf(call: CallRecord, { logs }: CallSources): Promise<LogEntry[]> {
    const since = Math.max(0, Math.floor(call.t - LOGS_BEFORE_MS));
    const until = Math.ceil(call.t + call.totalMs + LOGS_AFTER_MS);
    return all(logs(call.namespace, call.name, { since, until, limit: MAX_LOG_LINES, request: call.id }));
  }

  async #notesOf(call: CallRecord, { logs }: CallSources): Promise<LogEntry[]> {
    const { instance } = call;
    if (instance === undefined) return [];
    const since = Math.max(0, Math.floor(call.t - NOTES_BEFORE_MS));
    const until = Math.ceil(call.t + call.totalMs + NOTES_AFTER_MS);
    const notes = await all(logs(call.namespace, call.name, { since, until, limit: MAX_NOTES, instance, stream: 'sys' }));
    // The platform writes of an instance at once, the shim's words come through the engine: they are told as they were said.
    return notes.sort((a, b) => a.t - b.t);
  }

  close(): void {
    this.#journal.close();
  }
}

function remember(traces: Map<string, string>, calls: readonly CallRecord[]): void {
  for (const { id, traceId } of calls) if (traceId !== undefined) traces.set(id, traceId);
  for (const id of traces.keys()) {
    if (traces.size <= MAX_TRACES) break;
    traces.delete(id);
  }
}

/** A record of the journal comes once more from the gateway that still remembers it. */
function distinct(calls: readonly CallRecord[]): CallRecord[] {
  const byContent = new Map(calls.map((call) => [`${call.gateway} ${call.id} ${call.t} ${call.totalMs}`, call]));
  return [...byContent.values()];
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
