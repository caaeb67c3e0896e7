/**
 * The same by the rules of the published comparison, on a host whose memory is limited: who needs room has others stopped for it, and
 * what is compared is whose instance goes. Not those that are used in this minute; where all are, the newcomer has to wait, and goes.
 */
import { priorityOf, type EvictionOrder } from '../../controller/core/keep-alive/eviction.ts';
import { newHistory, observe, type IdleHistory } from '../../controller/core/keep-alive/history.ts';
import { isKept, unusedMs, type KeepAlivePolicy, type Stay } from '../../controller/core/keep-alive/policy.ts';
import { emptyReplay, type PolicyPerFunction, type Replay } from './replay.ts';
import type { Trace, TracedFunction } from './trace.ts';

const MINUTE_MS = 60_000;
/** The trace does not say what a start takes: all take as long. */
const START_MS = 300;

interface Warm {
  traced: TracedFunction;
  policy: KeepAlivePolicy;
  history: IdleHistory;
  stay: Stay;
  /** Minute of the last use. */
  usedAt: number;
  uses: number;
  priority: number;
  /** It was stopped for another, or had no room; until its next use. */
  lost: boolean;
  cold: number;
}

export interface MemoryReplay extends Replay {
  evicted: number;
}

export function replayMemory(trace: Trace, policy: PolicyPerFunction, limitMib: number, order: EvictionOrder): MemoryReplay {
  const result = { ...emptyReplay(), evicted: 0 };
  const all: Warm[] = [];
  const byMinute: Warm[][] = Array.from({ length: trace.minutes }, () => []);
  for (const traced of trace.functions) {
    if (traced.invocations === 0) continue;
    const one: Warm = {
      traced,
      policy: policy(),
      history: newHistory(),
      stay: { stayMs: 0, prewarm: null },
      usedAt: -1,
      uses: 0,
      priority: 0,
      lost: true,
      cold: 0,
    };
    all.push(one);
    for (const minute of traced.minutes) byMinute[minute]!.push(one);
  }
  let clock = 0;
  let loaded = new Set<Warm>();
  for (const [minute, used] of byMinute.entries()) {
    loaded = new Set(all.filter((one) => one.usedAt >= 0 && !one.lost && isKept(one.stay, (minute - one.usedAt) * MINUTE_MS)));
    let takenMib = 0;
    for (const one of loaded) takenMib += one.traced.memoryMib;
    // Those that were to be brought up and find no room are not: the plan stops nobody for them.
    for (const one of used) {
      if (one.usedAt >= 0) {
        const idleMs = (minute - one.usedAt) * MINUTE_MS;
        result.unusedMinutes += one.lost ? 0 : unusedMs(one.stay, idleMs) / MINUTE_MS;
        observe(one.history, idleMs);
      }
      if (!loaded.has(one)) {
        one.cold += 1;
        one.uses = 0;
        takenMib += one.traced.memoryMib;
      }
      loaded.add(one);
      Object.assign(one, { usedAt: minute, lost: false, stay: one.policy(one.history), uses: one.uses + 1 });
      one.priority = priorityOf(order, { clock, uses: one.uses, startMs: START_MS, memoryMib: one.traced.memoryMib, usedAt: minute });
    }
    if (takenMib <= limitMib) continue;
    for (const one of [...loaded].sort((a, b) => a.priority - b.priority)) {
      if (takenMib <= limitMib) break;
      if (one.usedAt === minute) continue;
      result.unusedMinutes += unusedMs(one.stay, (minute - one.usedAt) * MINUTE_MS) / MINUTE_MS;
      one.lost = true;
      takenMib -= one.traced.memoryMib;
      clock = Math.max(clock, one.priority);
      result.evicted += 1;
    }
    for (const one of used.toReversed()) {
      if (takenMib <= limitMib) break;
      one.lost = true;
      takenMib -= one.traced.memoryMib;
    }
  }
  for (const one of all) {
    result.functions += 1;
    result.invocations += one.traced.invocations;
    result.coldStarts += one.cold;
    result.coldPercent.push((100 * one.cold) / one.traced.invocations);
  }
  return result;
}
