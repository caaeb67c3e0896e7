/** What one run is like. */
import type { CoreSettings } from '../../controller/core/settings.ts';
import { CORE_DEFAULTS } from '../../controller/core/settings.ts';

export interface Shape {
  functions: number;
  /** Instances of functions that are to be up on average; those of the pool come on top. */
  instances: number;
  coldPerSecond: number;
  gateways: number;
  deploysPerSecond: number;
  /** Revisions kept of each function: routes tell all of them. */
  revisions: number;
  /** Exponent of Zipf's law. */
  skew: number;
  /** Requests at a time per instance. */
  concurrency: number;
  serviceMs: number;
  warmUpSeconds: number;
  seconds: number;
  seed: number;
}

/** Gateways give an unused lease back after this, seconds (gateway/leases.ts): the rest of the linger is the function's keep-alive. */
export const RELEASE_SECONDS = 1;

/** What the controller of a cluster of this size would be set to. */
export function clusterSettings(shape: Shape): Partial<CoreSettings> {
  const pool = Math.ceil(shape.coldPerSecond * 4) + 10;
  return {
    ...CORE_DEFAULTS,
    memoryBudgetMib: (shape.instances + pool) * 128 * 2,
    cpuBudget: shape.instances * 4,
    maxCreates: pool,
    poolSize: pool,
    poolShare: 0.5,
    // As with the kubernetes driver.
    refillDelayMs: 100,
    refillMaxDelayMs: 1_000,
    freezeAfterMs: null,
    pooledStartMs: 25,
    fullStartMs: 2_000,
    previewKeepAliveMs: 1_000,
    rollbackGraceMs: 1_000,
    defaultPool: { runtime: 'node', memoryClassMib: 128, network: 'none', image: null, sandbox: null },
  };
}
