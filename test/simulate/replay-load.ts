/**
 * The same with time inside of the minutes: invocations are spread over theirs by a seeded choice, take as long as the trace says, and
 * an instance works on so many at a time. Every invocation that finds no slot is a cold start. With several instances the policy
 * decides on the last one that is idle; the others go after the time that the platform gives those.
 */
import { newHistory, observe } from '../../controller/core/keep-alive/history.ts';
import { excessKeepMs, isKept, unusedMs, type KeepAlivePolicy, type Stay } from '../../controller/core/keep-alive/policy.ts';
import { seeded } from '../sim/random.ts';
import { emptyReplay, type PolicyPerFunction, type Replay } from './replay.ts';
import { hash, type Trace, type TracedFunction } from './trace.ts';

const MINUTE_MS = 60_000;

export interface LoadOptions {
  seed: number;
  /** Invocations that an instance works on at a time. */
  concurrency: number;
}

export function replayLoad(trace: Trace, policy: PolicyPerFunction, options: LoadOptions): Replay {
  const result = emptyReplay();
  for (const traced of trace.functions)
    if (traced.invocations > 0) new Course(traced, policy(), options, result).run(trace.minutes * MINUTE_MS);
  return result;
}

interface Warm {
  /** When each invocation in it ends. */
  ends: number[];
  /** Until when what it was unused is counted; while it works, when it will be idle. */
  idleFrom: number;
}

/** One function through the whole trace. */
class Course {
  readonly #traced: TracedFunction;
  readonly #options: LoadOptions;
  readonly #result: Replay;
  readonly #chance: () => number;
  readonly #history = newHistory();
  readonly #policy: KeepAlivePolicy;
  #stay: Stay;
  #warm: Warm[] = [];
  #cold = 0;

  constructor(traced: TracedFunction, policy: KeepAlivePolicy, options: LoadOptions, result: Replay) {
    this.#traced = traced;
    this.#options = options;
    this.#result = result;
    this.#chance = seeded(hash(traced.id) ^ options.seed);
    this.#policy = policy;
    this.#stay = this.#policy(this.#history);
  }

  run(end: number): void {
    const { minutes, counts, invocations } = this.#traced;
    for (const [index, minute] of minutes.entries()) {
      const offsets = Array.from({ length: counts[index]! }, () => this.#chance() * MINUTE_MS).sort((a, b) => a - b);
      for (const offset of offsets) this.#arrive(minute * MINUTE_MS + offset);
    }
    this.#lookAt(Math.max(end, ...this.#warm.map(({ idleFrom }) => idleFrom)));
    for (const { idleFrom } of this.#warm) this.#unused(end - idleFrom);
    this.#result.functions += 1;
    this.#result.invocations += invocations;
    this.#result.coldStarts += this.#cold;
    this.#result.coldPercent.push((100 * this.#cold) / invocations);
  }

  #arrive(at: number): void {
    if (this.#lookAt(at)) this.#stay = this.#policy(this.#history);
    const open = this.#warm.filter(({ ends }) => ends.length < this.#options.concurrency);
    // The busiest first, then the one that was used last, as grants are made.
    let taken = open.sort((a, b) => b.ends.length - a.ends.length || b.idleFrom - a.idleFrom)[0];
    if (taken === undefined) {
      this.#cold += 1;
      this.#warm.push((taken = { ends: [], idleFrom: at }));
    }
    if (taken.ends.length === 0) this.#unused(at - taken.idleFrom);
    const end = at + this.#durationMs();
    taken.ends.push(end);
    taken.idleFrom = taken.ends.length === 1 ? end : Math.max(taken.idleFrom, end);
  }

  /** What has ended, and who has gone, by this time. True: the function was idle until now. */
  #lookAt(at: number): boolean {
    for (const instance of this.#warm) instance.ends = instance.ends.filter((end) => end > at);
    const idle = this.#warm.filter(({ ends }) => ends.length === 0).sort((a, b) => b.idleFrom - a.idleFrom);
    const wasIdle = this.#warm.length === idle.length && this.#warm.length > 0;
    const keepMs = excessKeepMs(this.#stay);
    const last = wasIdle ? idle.shift()! : null;
    const gone = new Set<Warm>();
    for (const instance of idle) {
      if (at - instance.idleFrom <= keepMs) continue;
      this.#unused(keepMs);
      gone.add(instance);
    }
    if (last !== null) {
      const idleMs = at - last.idleFrom;
      this.#result.unusedMinutes += unusedMs(this.#stay, idleMs) / MINUTE_MS;
      if (this.#stay.prewarm !== null && idleMs > this.#stay.prewarm.fromMs) this.#result.prewarmed += 1;
      if (!isKept(this.#stay, idleMs)) gone.add(last);
      last.idleFrom = at;
      observe(this.#history, idleMs);
    }
    this.#warm = this.#warm.filter((instance) => !gone.has(instance));
    return last !== null;
  }

  #unused(ms: number): void {
    this.#result.unusedMinutes += Math.max(0, ms) / MINUTE_MS;
  }

  /** By the percentiles of the trace, linear between them. */
  #durationMs(): number {
    const { durationsMs } = this.#traced;
    const at = this.#chance() * (durationsMs.length - 1);
    const low = Math.floor(at);
    return durationsMs[low]! + (durationsMs[low + 1]! - durationsMs[low]!) * (at - low);
  }
}
