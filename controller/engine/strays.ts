/**
 * Instances that run and that nobody here knows: the API server of a cluster may carry out a creation that the controller before
 * this one had asked for, when this one has taken its inventory. Nobody would ever use them, nor end them.
 */
import { type EngineContext, messageOf } from './context.ts';

/** How often it is looked for them, ms. Who is found twice in a row is none: what is being made or ended is known to the world. */
const LOOK_EVERY_MS = 60_000;

export class Strays {
  readonly #context: EngineContext;
  #suspects: ReadonlySet<string> = new Set();
  #cancel: () => void = () => {};
  #closed = false;

  constructor(context: EngineContext) {
    this.#context = context;
  }

  /** After the inventory. */
  start(): void {
    this.#cancel = this.#context.clock.after(LOOK_EVERY_MS, () => void this.#look());
  }

  close(): void {
    this.#closed = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    const { driver, world, log } = this.#context;
    try {
      const unknown = (await driver.list()).filter(({ id }) => !world.instances.has(id)).map(({ id }) => id);
      const strays = unknown.filter((id) => this.#suspects.has(id));
      this.#suspects = new Set(unknown);
      for (const id of strays) await this.#end(id);
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'it could not be looked for instances that nobody knows');
    }
    if (!this.#closed) this.start();
  }

  /** One that cannot be ended is found again. */
  async #end(id: string): Promise<void> {
    const { driver, records, log, leads } = this.#context;
    if (this.#closed || !leads()) return;
    log.warn({ instance: id }, 'ending an instance that nobody knows');
    try {
      await driver.kill(id);
      await records.remove(id);
    } catch (error) {
      log.warn({ instance: id, error: messageOf(error) }, 'an instance that nobody knows could not be ended; trying again');
    }
  }
}
