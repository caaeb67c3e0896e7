/**
 * Why a container ended. What there is to go by:
 *
 * - Docker's OOMKilled says that an OOM was seen in the container's control group, not whose limit it
 *   was. On version 1 the kernel tells every group below the one that is full, and the container's own
 *   counters are gone with it. So the parent's are watched: they only tell of what reached *its* limit.
 *   Unchanged, the OOM was the instance's own; changed, it is nobody's fault that can be named: `lost`.
 * - Version 2 also counts, over the whole tree, kills that any limit brought about. Unchanged, the
 *   machine itself was out of memory: `lost` too.
 * - V8 gives up by itself when its heap is full: its words on stderr, and a crash (exit.ts).
 */
import { describeExit, exitSignal, isHeapExhausted } from '../exit.ts';
import type { Exit } from '../types.ts';
import { forgetPeak, memoryCounters, type CgroupDirs, type MemoryCounters } from './cgroup.ts';

/** Several instances can end of one OOM; their ends are told within this time, ms. */
const ONE_OOM_MS = 2_000;

export class OomJudge {
  readonly #parent: CgroupDirs | null;
  readonly #now: () => number;
  #last: MemoryCounters | null = null;
  #parentFullAt = -Infinity;
  #peakForgotten = false;
  #limitOomAt = -Infinity;

  constructor(parent: CgroupDirs | null, now: () => number = () => performance.now()) {
    this.#parent = parent;
    this.#now = now;
  }

  /** Looks at the counters; what they tell from here on is news. */
  async look(): Promise<void> {
    if (this.#parent === null) return;
    const counters = await memoryCounters(this.#parent);
    if (counters && this.#last) {
      if (counters.atOwnLimit !== this.#last.atOwnLimit) this.#parentFullAt = this.#now();
      if (counters.limitOom !== this.#last.limitOom) this.#limitOomAt = this.#now();
      // Where the peak cannot be forgotten, only the first time that it is there tells anything.
      if (counters.peakAtLimit && (this.#peakForgotten || !this.#last.peakAtLimit)) this.#parentFullAt = this.#now();
    }
    if (counters?.peakAtLimit) this.#peakForgotten = await forgetPeak(this.#parent);
    this.#last = counters;
  }

  /** Whether an OOM that was just seen came from the instance's own limit, as far as can be told. */
  async wasOwn(): Promise<boolean> {
    await this.look();
    if (this.#last === null) return true;
    if (this.#now() - this.#parentFullAt < ONE_OOM_MS) return false;
    return this.#last.limitOom === null || this.#now() - this.#limitOomAt < ONE_OOM_MS;
  }
}

export interface Ending {
  exitCode: number | null;
  oomKilled: boolean;
  /** It ended while the engine could not be followed, as when the engine itself was restarted. */
  whileAway: boolean;
  /** The end of its stderr; read only where a crash makes it matter. */
  stderrTail: () => Promise<string>;
}

/** Cause and words for an instance that ended by itself. */
export async function judge(ending: Ending, oom: OomJudge): Promise<Omit<Exit, 'id'>> {
  const { exitCode, oomKilled, whileAway } = ending;
  const signal = exitSignal(exitCode);
  if (oomKilled && signal === 'SIGKILL') {
    if (await oom.wasOwn()) return { cause: 'oom', detail: 'killed by the kernel at its memory limit' };
    return { cause: 'lost', detail: 'killed by the kernel: all instances together, or the machine, were out of memory' };
  }
  if (signal !== null && signal !== 'SIGKILL' && signal !== 'SIGTERM') {
    if (isHeapExhausted(await ending.stderrTail(), exitCode)) return { cause: 'oom', detail: 'the JavaScript heap was full' };
  }
  if (whileAway) return { cause: 'lost', detail: `ended while the Docker engine was away (${describeExit(exitCode)})` };
  return { cause: 'exit', detail: describeExit(exitCode) };
}
