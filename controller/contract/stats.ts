/** What functions use: CPU, memory, calls. Totals since `since`; they never fall while the function is there. */
import { z } from 'zod';
import { FunctionName, Namespace, RevisionKey } from './names.ts';

/** Classes of durations: the first ends at half a millisecond, each other one √2 times higher; the last has no end (some 9 minutes and more). */
const FIRST_BOUND_MS = 0.5;
const LAST_CLASS = 41;
export const DURATION_CLASSES = LAST_CLASS + 1;

/** Upper end of a class, ms. */
export const durationBoundMs = (index: number): number => (index >= LAST_CLASS ? Infinity : FIRST_BOUND_MS * 2 ** (index / 2));

/** Class that a duration is counted in. */
export function durationClass(ms: number): number {
  if (ms <= FIRST_BOUND_MS) return 0;
  return Math.min(LAST_CLASS, Math.ceil(2 * Math.log2(ms / FIRST_BOUND_MS)));
}

const count = z.number().int().min(0);

/** What a gateway counted of one revision since the batch before. */
export const CallCounts = z.object({
  revision: RevisionKey,
  /** Sent to an instance; of those, such that failed: by a problem, with 500 or above, or left by the client. */
  invocations: count,
  errors: count,
  /** Never sent to one: no slot in time, over a limit, left by the client. */
  rejected: count,
  /** Those that waited for a start, by its kind. */
  pooled: count,
  full: count,
  /** From being sent to an instance to the end of the answer; of streams, to its head. Sum, ms. */
  durationMs: z.number().min(0),
  /** How many durations were of which class. */
  durations: z.array(z.tuple([z.number().int().min(0).max(LAST_CLASS), count])).max(DURATION_CLASSES),
});
export type CallCounts = z.infer<typeof CallCounts>;

/** Revisions of one batch: some 300 kB at most. */
export const MAX_COUNTS_PER_BATCH = 1_000;

/** A batch is sent again, as it was, until it is acknowledged; `seq` says that it is the same. */
export const CountsBatch = z.object({
  seq: z.number().int().positive(),
  // Counted before it is looked into, as with calls.
  counts: z.array(z.unknown()).max(MAX_COUNTS_PER_BATCH).pipe(z.array(CallCounts)),
});
export type CountsBatch = z.infer<typeof CountsBatch>;

export const ResourceStats = z.object({
  /** User and system, of all processes. */
  cpuSeconds: z.number(),
  /** Limit × time: what was kept for it, whether it was used or not, GiB·s. */
  memoryReservedGibSeconds: z.number(),
  /** What it had in use (without file cache that can be dropped) × time, from samples, GiB·s. */
  memoryUsedGibSeconds: z.number(),
});
export type ResourceStats = z.infer<typeof ResourceStats>;

export const UsageStats = ResourceStats.extend({
  /** The most that one instance had in use, file cache included where the kernel tells the peak; 0: never read. */
  memoryPeakBytes: z.number(),
  /** Requests and events that were sent to an instance. */
  invocations: count,
  /** Of those, such that failed: answered by the platform with a problem, by the function with 500 or above, or left by the client. */
  errors: count,
  /** Requests that no instance got: no slot in time, over a limit, or left by the client before. */
  rejected: count,
  /** Requests that waited for a start: of an instance of the pool, or of one that had to be created. */
  coldStarts: z.object({ pooled: count, full: count }),
  /** Instances that loaded its code, whoever waited for them. */
  instancesStarted: count,
  /** From being sent to an instance to the end of the answer (of streams, to its head). Percentiles within 20 %; null without calls. */
  duration: z.object({ sumSeconds: z.number(), p50Ms: z.number().nullable(), p95Ms: z.number().nullable(), p99Ms: z.number().nullable() }),
});
export type UsageStats = z.infer<typeof UsageStats>;

export const FunctionStats = UsageStats.extend({
  namespace: Namespace,
  name: FunctionName,
  /** Since when it is counted, milliseconds since 1970. */
  since: z.number(),
  /** It was deleted then: its totals are kept a while. */
  deletedAt: z.number().nullable(),
  /** Those that are kept, the newest first. The totals above have those that went, too. */
  revisions: z.array(UsageStats.extend({ number: z.number().int().positive() })),
});
export type FunctionStats = z.infer<typeof FunctionStats>;

/** Who says what CPU and memory are used: see docs/observability.md. */
export const UsageSource = z.enum(['cgroup', 'processes', 'metrics-api', 'none']);
export type UsageSource = z.infer<typeof UsageSource>;

export const StatsList = z.object({
  source: UsageSource,
  /** By namespace, then name. */
  functions: z.array(FunctionStats),
  /** What instances used before they were any function's; told to those who may see all namespaces. */
  pool: ResourceStats.nullable(),
});
export type StatsList = z.infer<typeof StatsList>;

/** Of all namespaces of the caller, or of one. */
export const StatsQuery = z.strictObject({ namespace: Namespace.optional() });
export type StatsQuery = z.infer<typeof StatsQuery>;
