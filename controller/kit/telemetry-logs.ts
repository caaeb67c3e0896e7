/** The way of log lines to a collector: a bounded queue in front of it, so that nobody ever waits for one. */
import type { Clock } from './clock.ts';

/** Lines that wait to be sent; those beyond are counted and left out. */
export const MAX_QUEUED_RECORDS = 10_000;
/** Lines sent at a time. */
const BATCH_RECORDS = 512;
/** How long lines are gathered, ms. */
const GATHER_MS = 1_000;
/** So long a line waits at least, ms: gateways tell of a request, and so of its trace, within 250 ms of its end. */
const SETTLE_MS = 500;

/** A line as a collector gets it. */
export interface LogRecord {
  /** Milliseconds since 1970. */
  t: number;
  level: 'debug' | 'info' | 'warn' | 'error';
  body: string;
  attributes: Record<string, string>;
  traceId?: string | undefined;
}

export interface LogExportOptions<T> {
  clock: Clock;
  /** When it is sent, not when it is queued: more is known of it then. */
  convert: (item: T) => LogRecord;
  /** Resolves with whether it was taken. Never rejects. */
  send: (records: readonly LogRecord[]) => Promise<boolean>;
}

export class LogExport<T> {
  readonly #options: LogExportOptions<T>;
  #queue: { item: T; at: number }[] = [];
  /** Up to when what was queued is being sent. */
  #until = Number.NEGATIVE_INFINITY;
  #sending: Promise<void> | null = null;
  #scheduled = false;
  /** Lines that were not sent: over the queue, or refused. */
  dropped = 0;

  constructor(options: LogExportOptions<T>) {
    this.#options = options;
  }

  /** Returns at once. */
  add(items: readonly T[]): void {
    const room = MAX_QUEUED_RECORDS - this.#queue.length;
    this.dropped += Math.max(0, items.length - room);
    const at = this.#options.clock.now();
    for (const item of items.slice(0, room)) this.#queue.push({ item, at });
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#queue.length === 0) return;
    this.#scheduled = true;
    const { clock } = this.#options;
    clock.after(GATHER_MS, () => {
      this.#scheduled = false;
      void this.#sendUntil(clock.now() - SETTLE_MS).then(() => this.#schedule());
    });
  }

  /** Resolves when all that is queued now was sent or refused. */
  flush(): Promise<void> {
    return this.#sendUntil(Number.POSITIVE_INFINITY);
  }

  #sendUntil(until: number): Promise<void> {
    this.#until = Math.max(this.#until, until);
    this.#sending ??= this.#send().finally(() => {
      this.#sending = null;
      this.#until = Number.NEGATIVE_INFINITY;
    });
    return this.#sending;
  }

  /** One batch after the other: a collector that is slow gets no more than one at a time. */
  async #send(): Promise<void> {
    for (;;) {
      const batch = this.#queue.slice(0, BATCH_RECORDS).filter(({ at }) => at <= this.#until);
      if (batch.length === 0) return;
      this.#queue = this.#queue.slice(batch.length);
      if (!(await this.#options.send(batch.map(({ item }) => this.#options.convert(item))))) this.dropped += batch.length;
    }
  }
}
