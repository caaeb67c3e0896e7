/**
 * Room for the logs of all functions together, where that is limited: when there is more, the segment that was written to the
 * longest time ago goes, whichever function's it is, then the next.
 */
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { LogFiles } from '../store/types.ts';
import { messageOf } from './context.ts';

/** That logs had to go is told so often, ms, with what went since. */
const TELL_EVERY_MS = 60_000;
/** Functions that are named when it is told. */
const MAX_NAMED = 10;

export interface LogRoomOptions {
  files: LogFiles;
  clock: Clock;
  log: Log;
  /** Removes the oldest segment of a log (`NAMESPACE/NAME`). Returns its bytes; 0: there was none. */
  removeOldest: (log: string) => Promise<number>;
}

export class LogRoom {
  readonly #options: LogRoomOptions;
  #working: Promise<void> | null = null;
  #closed = false;
  #toldAt = -Infinity;
  #gone = { segments: 0, bytes: 0, functions: new Set<string>() };

  constructor(options: LogRoomOptions) {
    this.#options = options;
  }

  /** After something was added. Does not wait. */
  look(): void {
    const { files, log } = this.#options;
    if (!files.overfull || this.#working !== null || this.#closed) return;
    this.#working = this.#make()
      .catch((error: unknown) => log.warn({ error: messageOf(error) }, 'no room could be made for logs; trying again with the next lines'))
      .finally(() => (this.#working = null));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#working;
  }

  async #make(): Promise<void> {
    const { files, removeOldest } = this.#options;
    while (files.overfull && !this.#closed) {
      const oldest = await files.oldest();
      const bytes = oldest === null ? 0 : await removeOldest(oldest.log);
      if (oldest === null || bytes === 0) break;
      this.#gone.segments += 1;
      this.#gone.bytes += bytes;
      this.#gone.functions.add(oldest.log);
    }
    this.#tell();
  }

  #tell(): void {
    const { clock, log } = this.#options;
    const { segments, bytes, functions } = this.#gone;
    if (segments === 0 || clock.now() - this.#toldAt < TELL_EVERY_MS) return;
    this.#toldAt = clock.now();
    this.#gone = { segments: 0, bytes: 0, functions: new Set() };
    log.warn(
      { segments, bytes, functions: [...functions].slice(0, MAX_NAMED), ofFunctions: functions.size },
      'the logs of all functions are more than is kept in the store (FN_LOGS_IN_STORE_MIB): the oldest lines were removed',
    );
  }
}
