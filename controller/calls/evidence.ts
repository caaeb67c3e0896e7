/** What is known of one call, and how it is told in numbers. */
import type { CallRecord, StartInfo } from '#contract/call.ts';
import { type ErrorCode, ERRORS } from '#contract/errors.ts';
import type { Revision } from '#contract/function.ts';
import type { LogEntry } from '#contract/log.ts';

export interface Evidence {
  call: CallRecord;
  /** What the function wrote for it, by time. */
  logs: readonly LogEntry[];
  /** The platform's and the shim's words about the instance, by time. */
  notes: readonly LogEntry[];
  dropped: number;
  others: number;
  /** null where it is not kept any more. */
  revision: Revision | null;
}

/** How long the start took of what this request waited: one that was begun for another may be older than it. */
export function startPhases(start: StartInfo, queueMs: number): { queue: number; start: number; init: number } {
  const init = Math.min(start.initMs, queueMs);
  const created = Math.min(start.startMs, queueMs - init);
  return { queue: round(queueMs - init - created), start: round(created), init: round(init) };
}

/** The registry's entry of the problem; null where the function answered by itself. */
export function entryOf(call: CallRecord): (typeof ERRORS)[ErrorCode] | null {
  const found = Object.entries(ERRORS).find(([code]) => code === call.code);
  return found?.[1] ?? null;
}

/** Clocks tell whole milliseconds, and a line may be written a little after the answer has gone, ms. */
const LATE_MS = 20;

/** How shims begin the line of an error that nobody caught. */
const UNCAUGHT = /^(?:Uncaught exception|Unhandled rejection)\b/;

/**
 * The error that it ended with: what a function throws is logged last, after what it reported on the way,
 * and before what work that goes on behind the answer may report. Null where it logged none.
 */
export function errorOf({ call, logs }: Pick<Evidence, 'call' | 'logs'>): LogEntry | null {
  const errors = logs.filter(({ level }) => level === 'error');
  const end = call.t + call.totalMs + LATE_MS;
  const inTime = errors.filter(({ t }) => t <= end);
  // What nobody caught ended the process, not this answer: the shim says so of it, and answers in the function's own words.
  const own = call.code === undefined ? inTime.findLast(({ msg }) => !UNCAUGHT.test(msg)) : undefined;
  return own ?? inTime.at(-1) ?? errors[0] ?? null;
}

const round = (value: number): number => Math.round(Math.max(0, value) * 100) / 100;

/** 12 ms, 1.2 s */
export const ms = (value: number): string =>
  value < 10 ? `${Math.round(value * 10) / 10} ms` : value < 1_000 ? `${Math.round(value)} ms` : `${Math.round(value / 100) / 10} s`;
