/**
 * Keeps what is known of when functions are used over restarts and takeovers: read once at the start, written from time to time for
 * those of which it has changed, and at the end. A controller that dies loses a minute of it at most.
 */
import { z } from 'zod';
import { historyFrom, historyText } from '../core/keep-alive/history.ts';
import { newFunctionUse, type FunctionUse } from '../core/keep-alive/use.ts';
import { messageOf, type EngineContext } from './context.ts';

const SAVE_EVERY_MS = 60_000;
/** Functions that are written in one transaction: some 300 bytes each. */
const SAVED_AT_ONCE = 1_000;

/** `idleSince`: milliseconds since 1970; null: it was in use. */
const Stored = z.object({ history: z.string(), idleSince: z.number().nullable() });

export class IdleTimes {
  readonly #context: Pick<EngineContext, 'world' | 'store' | 'clock' | 'log'>;
  /** Functions that are no more, and are to be removed from the store. */
  readonly #removed = new Set<string>();
  #cancel: () => void = () => {};
  #saving: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(context: Pick<EngineContext, 'world' | 'store' | 'clock' | 'log'>) {
    this.#context = context;
  }

  /** Before anything is decided. `functions`: `NAMESPACE/NAME` of those that are there; what is known of others is removed. */
  async start(functions: ReadonlySet<string>): Promise<void> {
    const { world, store, clock, log } = this.#context;
    for (const [key, text] of await store.loadIdleTimes()) {
      const use = functions.has(key) ? this.#read(text) : null;
      if (use !== null) world.uses.set(key, use);
      else this.#removed.add(key);
      if (use === null && functions.has(key))
        log.warn({ function: key }, 'what was known of when a function is used cannot be read: it begins anew');
    }
    this.#cancel = clock.after(SAVE_EVERY_MS, () => void this.#tick());
  }

  #read(text: string): FunctionUse | null {
    const { clock } = this.#context;
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      return null;
    }
    const stored = Stored.safeParse(json);
    const history = stored.success ? historyFrom(stored.data.history) : null;
    if (!stored.success || history === null) return null;
    const { idleSince } = stored.data;
    return newFunctionUse(history, idleSince === null ? null : clock.now() - Math.max(0, clock.wall() - idleSince));
  }

  removed(namespace: string, name: string): void {
    this.#removed.add(`${namespace}/${name}`);
  }

  async #tick(): Promise<void> {
    await this.#save();
    if (!this.#closed) this.#cancel = this.#context.clock.after(SAVE_EVERY_MS, () => void this.#tick());
  }

  /** One after the other; what could not be written is written with the next. */
  #save(): Promise<void> {
    this.#saving = this.#saving.then(async () => {
      for (let more = true; more;) more = await this.#saveSome();
    });
    return this.#saving;
  }

  /** True: there is more. */
  async #saveSome(): Promise<boolean> {
    const { world, store, clock, log } = this.#context;
    // Made again meanwhile, with the same name: what is written is what it has now.
    for (const key of this.#removed) if (world.uses.has(key)) world.uses.get(key)!.changed = true;
    const set = new Map<string, string>();
    const written: FunctionUse[] = [];
    for (const [key, use] of world.uses) {
      if (!use.changed || set.size >= SAVED_AT_ONCE) continue;
      const idleSince = use.idleSince === null ? null : Math.round(clock.wall() - (clock.now() - use.idleSince));
      set.set(key, JSON.stringify({ history: historyText(use.history), idleSince }));
      use.changed = false;
      written.push(use);
    }
    const remove = [...this.#removed].filter((key) => !world.uses.has(key));
    if (set.size + remove.length === 0) return false;
    this.#removed.clear();
    try {
      await store.saveIdleTimes({ set, remove });
      return set.size >= SAVED_AT_ONCE;
    } catch (error) {
      for (const use of written) use.changed = true;
      for (const key of remove) this.#removed.add(key);
      log.warn({ functions: set.size, error: messageOf(error) }, 'when functions are used could not be written down');
      return false;
    }
  }

  /** Writes what has changed since. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancel();
    await this.#save();
  }
}
