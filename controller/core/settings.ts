import type { PoolKey } from './world.ts';

/** What the decisions depend on, beside the world. All times in milliseconds. */
export interface CoreSettings {
  /** Sum of the memory limits of all instances, MiB. */
  memoryBudgetMib: number;
  /** Of that, most for the instances of one namespace, MiB; absent: no limit of its own. */
  quotas: ReadonlyMap<string, number>;
  /** Sum of the CPU limits of all specialised instances, cores (over-committed: most are idle). */
  cpuBudget: number;
  /** Instances being created at a time. A start costs some 0.28 s of CPU, so about one per core. */
  maxCreates: number;
  /** Generic instances kept of the default pool; other pools in use keep at most one. */
  poolSize: number;
  /** The pool that a function without any settings uses. */
  defaultPool: PoolKey;
  /** Most of the memory budget that pools may take, 0–1. */
  poolShare: number;
  /**
   * Refills wait until no claim was made for so long, so that a refill never competes with the request that emptied the pool.
   */
  refillDelayMs: number;
  /**
   * But under load that does not end no longer than this, nor for starts that found the pool empty: where instances are made
   * elsewhere, a pool once empty would stay so for as long as the load lasts. Infinity: where they are made here, requests go first.
   */
  refillMaxDelayMs: number;
  /** A generic instance that no pool needs is stopped after so long. */
  excessAfterMs: number;
  /** An idle instance is frozen after so long; null where the host cannot freeze. */
  freezeAfterMs: number | null;
  /** Without traffic an idle instance is kept no longer than this: a preview that is looked at again at once is warm. */
  previewKeepAliveMs: number;
  /** Nor are those of a revision that has just lost its traffic, for so long: going back to it at once costs no start. */
  rollbackGraceMs: number;
  /** How long WebSockets and event streams of a revision that lost its traffic go on, before they are ended in order. */
  streamDrainMs: number;
  /** What a start takes, for the question whether to wait for a slot instead. */
  pooledStartMs: number;
  fullStartMs: number;
  /** A share is taken from one gateway for another at most so often per revision. */
  rebalanceEveryMs: number;
}

export const CORE_DEFAULTS = {
  maxCreates: 2,
  poolSize: 3,
  poolShare: 0.25,
  refillDelayMs: 50,
  refillMaxDelayMs: Infinity,
  excessAfterMs: 30_000,
  freezeAfterMs: 1_000,
  previewKeepAliveMs: 5_000,
  rollbackGraceMs: 10_000,
  streamDrainMs: 30_000,
  pooledStartMs: 15,
  fullStartMs: 350,
  rebalanceEveryMs: 250,
  quotas: new Map<string, number>(),
} as const satisfies Partial<CoreSettings>;
