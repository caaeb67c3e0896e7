/** What is looked after while the driver runs: rules that a firewall's reload threw out, and what a failed creation may have left. */
import type { Log } from '#kit/log.ts';
import type { Firewall } from './firewall.ts';
import { messageOf } from './host.ts';

/** How often, ms. For so long at most a reload of the firewall leaves instances without rules. */
const INTERVAL_MS = 10_000;

/**
 * How often a failed creation is removed again. An engine that did not answer in time may still be
 * making the container, minutes later.
 */
const LATE_ATTEMPTS = 30;

export interface CareOptions {
  log: Log;
  firewall: () => Firewall | null;
  kill: (id: string) => Promise<void>;
}

export class Care {
  readonly #options: CareOptions;
  /** Ids of failed creations, with the attempts that are left. */
  readonly #doomed = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: CareOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => void this.look(), INTERVAL_MS);
    this.#timer.unref();
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** A creation failed in a way that may have left something, or may yet. */
  doom(id: string): void {
    this.#doomed.set(id, LATE_ATTEMPTS);
  }

  /** Never throws: what fails is tried again. */
  async look(): Promise<void> {
    try {
      await this.#options.firewall()?.check();
      for (const [id, left] of this.#doomed) {
        await this.#options.kill(id);
        if (left <= 1) this.#doomed.delete(id);
        else this.#doomed.set(id, left - 1);
      }
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, 'looking after the host failed; it is tried again');
    }
  }
}
