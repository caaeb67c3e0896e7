/**
 * Tells the broker what is done, many at a time. Where the broker cannot be told, it is tried again for a while, for
 * a message that is not acknowledged comes again; when it does after all, it is known and not called a second time.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { Source, SourceMessage } from '../triggers/types.ts';
import type { Held } from './trigger-queue.ts';

/** Messages of one acknowledgement. */
const MAX_AT_ONCE = 1_000;
/** So long it is tried, ms; then the message may come again. */
const PATIENCE_MS = 20_000;
const PAUSE_MS = 500;
/** Messages that are done and may come again, as many as are remembered. */
const MAX_REMEMBERED = 20_000;

interface AcksOptions {
  source: Source;
  clock: Clock;
  log: Log;
  /** It is acknowledged, or given up: it is not held any more. */
  ended(held: Held): void;
}

const digest = ({ data }: SourceMessage): string => createHash('sha1').update(data).digest('base64');

export class Acks {
  readonly #options: AcksOptions;
  #queue: { held: Held; since: number; tries: number }[] = [];
  #flushing: Promise<void> | null = null;
  #closed = false;
  /** Key → what was in it. */
  readonly #unsure = new Map<string, string>();
  /** Messages that were done and could not be acknowledged: they may have come again. */
  possibleDuplicates = 0;

  constructor(options: AcksOptions) {
    this.#options = options;
  }

  add(held: Held): void {
    this.#queue.push({ held, since: this.#options.clock.now(), tries: 0 });
    this.#flushing ??= this.#flush().finally(() => (this.#flushing = null));
  }

  /** Whether this message was done already, and only its acknowledgement went wrong. */
  knows(key: string, message: SourceMessage): boolean {
    const before = this.#unsure.get(key);
    return before !== undefined && before === digest(message);
  }

  /** When all that can be told now is told. What could not be comes again. */
  async close(): Promise<void> {
    while (this.#flushing !== null) await this.#flushing;
    this.#closed = true;
  }

  async #flush(): Promise<void> {
    // What ends in the same turn goes together.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const fresh = this.#queue[0]!.tries === 0;
      // One that cannot be acknowledged must not keep others from it: from the second time on each goes by itself.
      const some = this.#queue.splice(0, fresh ? MAX_AT_ONCE : 1);
      try {
        await this.#options.source.ack(some.map(({ held }) => held.message));
        for (const { held } of some) this.#acknowledged(held);
      } catch (error) {
        this.#options.log.debug({ error: String(error), messages: some.length }, 'an acknowledgement failed');
        for (const one of some) this.#failed(one);
      }
    }
  }

  #acknowledged(held: Held): void {
    const { source, log, ended } = this.#options;
    this.#unsure.delete(held.key);
    // Earlier deliveries of it: most brokers have forgotten them with the connection.
    if (held.older.length > 0)
      source.ack(held.older).catch((error: unknown) => log.debug({ error: String(error) }, 'an earlier delivery is not known any more'));
    ended(held);
  }

  #failed(one: { held: Held; since: number; tries: number }): void {
    const { clock, log, ended } = this.#options;
    if (clock.now() - one.since < PATIENCE_MS) {
      clock.after(PAUSE_MS, () => {
        if (this.#closed) return;
        this.#queue.push({ ...one, tries: one.tries + 1 });
        this.#flushing ??= this.#flush().finally(() => (this.#flushing = null));
      });
      return;
    }
    this.possibleDuplicates += 1;
    log.warn(
      { message: one.held.message.id, total: this.possibleDuplicates },
      'a message is done and could not be acknowledged: it may come again',
    );
    this.#unsure.set(one.held.key, digest(one.held.message));
    if (this.#unsure.size > MAX_REMEMBERED) this.#unsure.delete(this.#unsure.keys().next().value!);
    ended(one.held);
  }
}
