import type { LogEntry } from '#contract/log.ts';
import { sleep } from '#kit/clock.ts';
import { byTime } from './log-query.ts';

/** Entries that are kept for a follower that does not read; of more only the newest are. */
export const MAX_FOLLOW_BACKLOG = 10_000;
/** Lines that come within so long of each other are given in the order of their time, ms: instances are read side by side. */
const SETTLE_MS = 50;

/** The lines that come while somebody follows a log. One reader. */
export class LogTail {
  #entries: LogEntry[] = [];
  #missed = 0;
  #ended = false;
  #wake: () => void = () => {};

  push(entry: LogEntry): void {
    if (this.#ended) return;
    this.#entries.push(entry);
    if (this.#entries.length > 2 * MAX_FOLLOW_BACKLOG) {
      this.#missed += this.#entries.length - MAX_FOLLOW_BACKLOG;
      this.#entries = this.#entries.slice(-MAX_FOLLOW_BACKLOG);
    }
    this.#wake();
  }

  /** No more will come; what is there is still given. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Ends after end(), or at once when aborted. */
  async *entries(signal: AbortSignal): AsyncGenerator<LogEntry> {
    const onAbort = () => this.#wake();
    signal.addEventListener('abort', onAbort);
    try {
      while (!signal.aborted) {
        if (this.#entries.length > 0 && !this.#ended) await sleep(SETTLE_MS);
        const entries = byTime(this.#entries);
        const [first] = entries;
        this.#entries = [];
        if (first && this.#missed > 0) {
          yield {
            ...first,
            level: 'warn',
            stream: 'sys',
            msg: `${this.#missed} lines are left out here: they came faster than they were read`,
          };
          this.#missed = 0;
        }
        for (const entry of entries) {
          if (signal.aborted) return;
          yield entry;
        }
        if (this.#entries.length > 0) continue;
        if (this.#ended) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          if (signal.aborted || this.#ended) resolve();
        });
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }
}
