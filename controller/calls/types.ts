/** The port of calls: what the engine tells and asks, and what an explanation needs of the engine. */
import type { CallList, CallQuery, CallRecord, Why } from '#contract/call.ts';
import type { Revision } from '#contract/function.ts';
import type { LogEntry } from '#contract/log.ts';

/** What is asked of the log of a function, the oldest first; see LogSelection. */
export interface CallLogQuery {
  since: number;
  until: number;
  limit: number;
  request?: string;
  /** Lines of this instance. */
  instance?: string;
  stream?: LogEntry['stream'];
}

/** Where an explanation finds what the records do not tell. */
export interface CallSources {
  logs(namespace: string, name: string, query: CallLogQuery): AsyncIterable<LogEntry>;
  /** What gateways still remember of it. */
  recall(id: string): Promise<CallRecord[]>;
  /** null where it is not kept any more. */
  revision(key: string): Revision | null;
  /** Lines that a log entry says were dropped. */
  dropped(entry: LogEntry): number;
}

export interface CallsPort {
  /** What a gateway told: records, and of how many requests it kept none. Never throws. */
  add(calls: readonly CallRecord[], skipped: number): void;
  /** Records of one function, the newest first. */
  list(namespace: string, name: string, query: CallQuery): CallList;
  /** `id` is that of a request or of a trace. Throws FnError call-not-found. */
  why(namespace: string, id: string, sources: CallSources): Promise<Why>;
  /** Idempotent. */
  close(): void;
}
