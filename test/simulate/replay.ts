/**
 * Replays a trace through a policy in virtual time, by the rules of the published comparison: one cold start at most per function and
 * minute, invocations take no time, a first one is always cold, all functions count alike.
 */
import { newHistory, observe } from '../../controller/core/keep-alive/history.ts';
import { isKept, unusedMs, type KeepAlivePolicy } from '../../controller/core/keep-alive/policy.ts';
import type { Trace, TracedFunction } from './trace.ts';

const MINUTE_MS = 60_000;

/** Made anew for each function: what it remembers is that one's. */
export type PolicyPerFunction = () => KeepAlivePolicy;

export interface Replay {
  functions: number;
  invocations: number;
  coldStarts: number;
  /** Instances that were brought up before anybody came. */
  prewarmed: number;
  /** Time that instances were there and unused. */
  unusedMinutes: number;
  /** Percent of each function's invocations. */
  coldPercent: number[];
}

export const emptyReplay = (): Replay => ({
  functions: 0,
  invocations: 0,
  coldStarts: 0,
  prewarmed: 0,
  unusedMinutes: 0,
  coldPercent: [],
});

export function replay(trace: Trace, policy: PolicyPerFunction): Replay {
  const result = emptyReplay();
  for (const traced of trace.functions) if (traced.invocations > 0) replayFunction(traced, trace.minutes, policy(), result);
  return result;
}

function replayFunction({ minutes, invocations }: TracedFunction, end: number, policy: KeepAlivePolicy, result: Replay): void {
  const history = newHistory();
  let cold = 1;
  for (const [index, minute] of minutes.entries()) {
    const stay = policy(history);
    const following = minutes[index + 1];
    const idleMs = ((following ?? end) - minute) * MINUTE_MS;
    result.unusedMinutes += unusedMs(stay, idleMs) / MINUTE_MS;
    if (stay.prewarm !== null && idleMs > stay.prewarm.fromMs) result.prewarmed += 1;
    if (following === undefined) break;
    if (!isKept(stay, idleMs)) cold += 1;
    observe(history, idleMs);
  }
  result.functions += 1;
  result.invocations += invocations;
  result.coldStarts += cold;
  result.coldPercent.push((100 * cold) / invocations);
}

/** Linear between the two nearest, as most define it. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const low = sorted[Math.floor(at)] ?? 0;
  return low + ((sorted[Math.ceil(at)] ?? low) - low) * (at - Math.floor(at));
}
