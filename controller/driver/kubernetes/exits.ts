/** Tells the engine room of instances that ended by themselves or are about to be taken away: each once, none that were killed. */
import type { Log } from '#kit/log.ts';
import type { Clock } from '#kit/clock.ts';
import { TAIL_BYTES } from '../exit.ts';
import type { Exit, Leaving } from '../types.ts';
import { deletedBy, judge } from './endings.ts';
import { containerState, type Known } from './instance.ts';
import { outputTail, type LogSource } from './logs.ts';

/** Before its end, so much of what it wrote is looked at for the reason, ms. */
const TAIL_MS = 5_000;
const TAIL_TIMEOUT_MS = 3_000;

export interface ExitsOptions {
  log: Log;
  clock: Clock;
  source: (known: Known) => LogSource;
}

export class Exits {
  readonly #options: ExitsOptions;
  readonly #exitListeners: ((exit: Exit) => void)[] = [];
  readonly #leavingListeners: ((leaving: Leaving) => void)[] = [];
  /** Those that nobody was there to be told of: a driver starts before who listens to it. */
  #untold: Known[] = [];

  constructor(options: ExitsOptions) {
    this.#options = options;
  }

  onExit(listener: (exit: Exit) => void): void {
    this.#exitListeners.push(listener);
  }

  /** The first also hears of those that began to leave before. */
  onLeaving(listener: (leaving: Leaving) => void): void {
    this.#leavingListeners.push(listener);
    const untold = this.#untold;
    this.#untold = [];
    for (const known of untold) if (known.phase === 'running') this.#tellLeaving(known);
  }

  /** What was not told concerns nobody any more: all is looked at anew. */
  forget(): void {
    this.#untold = [];
  }

  /** Reports the end of an instance, unless it is killed while the cause is found out. Never throws. */
  async ended(known: Known): Promise<void> {
    known.phase = 'ended';
    const exit = await this.#verdict(known).catch((error: unknown): Omit<Exit, 'id'> => {
      this.#options.log.warn({ instance: known.id, error: String(error) }, 'why an instance ended cannot be told');
      return { cause: 'lost', detail: 'why it ended cannot be told' };
    });
    // Read anew: whoever kills it meanwhile changes it.
    if (isEnded(known)) this.#tell(this.#exitListeners, known.id, { id: known.id, ...exit });
  }

  /** Somebody deletes its pod. Once for each. */
  leaving(known: Known): void {
    if (known.leaving) return;
    known.leaving = true;
    if (this.#leavingListeners.length === 0) this.#untold.push(known);
    else this.#tellLeaving(known);
  }

  #tellLeaving(known: Known): void {
    const { pod } = known;
    if (pod === null) return;
    const graceMs = (pod.metadata.deletionGracePeriodSeconds ?? 0) * 1_000;
    // Heard late, there is less of it. Clocks differ, so never more than was granted.
    const until = Date.parse(pod.metadata.deletionTimestamp ?? '') - this.#options.clock.wall();
    const left = Number.isNaN(until) ? graceMs : Math.min(graceMs, Math.max(0, until));
    this.#tell(this.#leavingListeners, known.id, { id: known.id, why: deletedBy(pod), graceMs: left });
  }

  async #verdict(known: Known): Promise<Omit<Exit, 'id'>> {
    if (known.pod === null) return { cause: 'lost', detail: 'its pod is gone' };
    const { pod } = known;
    const finished = Date.parse(containerState(pod).terminated?.finishedAt ?? '');
    const since = Number.isNaN(finished) ? null : new Date(finished - TAIL_MS).toISOString().replace(/\.\d+Z$/, 'Z');
    return judge(pod, () => outputTail(this.#options.source(known), since, TAIL_BYTES, TAIL_TIMEOUT_MS));
  }

  #tell<T>(listeners: readonly ((news: T) => void)[], instance: string, news: T): void {
    for (const listener of listeners) {
      try {
        listener(news);
      } catch (error) {
        this.#options.log.error({ instance, error: String(error) }, 'a listener failed on news of an instance');
      }
    }
  }
}

const isEnded = (known: Known): boolean => known.phase === 'ended';
