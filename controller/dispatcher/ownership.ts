/**
 * In whose name events are claimed. An owner beats; one that did not for its time loses its claims.
 * The name is given up for a new one when the store took it for dead, and when a call that may have claimed
 * failed: what it claimed unknown to us is freed when the old name leaves.
 */
import { FnError } from '#contract/errors.ts';
import { type BackoffOptions, backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { EventStore } from '../store/events.ts';

/** An owner is taken for dead when it was not heard of for so long, ms. */
export const OWNER_TTL_MS = 10_000;
/** How often it is heard, ms: four times may fail. */
export const BEAT_EVERY_MS = 2_000;
/** Nothing is claimed any more so long before its time is over, ms: a claim must outlive its own making. */
const MARGIN_MS = 2_000;
/** Between attempts to join a store that is away. */
const JOIN: BackoffOptions = { baseMs: 50, maxMs: 1_000, jitter: 0.3 };

export interface OwnershipEvents {
  /** Claims of this name are others' from now on: what runs in it is to be ended. */
  onLost(owner: string): void;
  /** Claims of others have become free. */
  onFreed(): void;
  /** A name is there (again): claims may be made. */
  onJoined(): void;
  /** Whether something is still being done in this name. */
  inUse(owner: string): boolean;
}

export interface OwnershipOptions {
  store: Pick<EventStore, 'join' | 'beat' | 'leave' | 'expire'>;
  clock: Clock;
  log: Log;
  events: OwnershipEvents;
}

export class Ownership {
  readonly #options: OwnershipOptions;
  /** Names joined so far, for the next one. */
  #count = 0;
  #base = '';
  #current: string | null = null;
  #heardAt = 0;
  /** Names given up, in which something still runs. */
  readonly #retiring = new Set<string>();
  #joining = false;
  #away = false;
  #closed = false;
  #cancel: () => void = () => {};
  #ticking: Promise<void> = Promise.resolve();

  constructor(options: OwnershipOptions) {
    this.#options = options;
  }

  /** null: nothing can be claimed now. */
  get current(): string | null {
    const fresh = this.#options.clock.now() - this.#heardAt < OWNER_TTL_MS - MARGIN_MS;
    return fresh && !this.#away && !this.#closed ? this.#current : null;
  }

  /** Resolves when the first name has joined and claims of the dead are free; tries for as long as it takes. */
  async start(base: string, retired: readonly string[]): Promise<void> {
    this.#base = base;
    const { store, clock } = this.#options;
    await this.#insist(async () => {
      for (const owner of retired) await store.leave(owner, clock.wall());
    });
    await this.#join();
    this.#schedule();
  }

  /** A call that may have claimed has failed. What it claimed is freed once the rest of this name is done. */
  doubt(owner: string): void {
    if (this.#current !== owner || this.#closed) return;
    this.#current = null;
    this.#retiring.add(owner);
    void this.#join();
  }

  /** The store says that this name is dead. */
  lost(owner: string): void {
    this.#retiring.delete(owner);
    if (this.#closed) return;
    this.#options.log.warn({ owner }, 'the store took this dispatcher for dead; it goes on under another name');
    this.#options.events.onLost(owner);
    if (this.#current !== owner) return;
    this.#current = null;
    void this.#join();
  }

  async #join(): Promise<void> {
    if (this.#joining || this.#closed) return;
    this.#joining = true;
    const { store, clock, log, events } = this.#options;
    const owner = this.#count === 0 ? this.#base : `${this.#base}.${this.#count}`;
    this.#count += 1;
    await this.#insist(async () => {
      const heardAt = clock.now();
      await store.join(owner, clock.wall() + OWNER_TTL_MS);
      this.#heardAt = heardAt;
    });
    this.#joining = false;
    if (this.#closed) return;
    this.#current = owner;
    this.#away = false;
    log.info({ owner }, 'events are claimed under this name');
    events.onJoined();
  }

  async #insist(run: () => Promise<void>): Promise<void> {
    for (let attempt = 1; !this.#closed; attempt += 1) {
      try {
        await run();
        return;
      } catch (error) {
        if (attempt === 1) this.#options.log.warn({ error: messageOf(error) }, 'the store of events cannot be reached; trying again');
        await new Promise<void>((resolve) => {
          this.#options.clock.after(backoffMs(attempt, JOIN), resolve);
        });
      }
    }
  }

  #schedule(): void {
    this.#cancel = this.#options.clock.after(BEAT_EVERY_MS, () => {
      this.#ticking = this.#tick().finally(() => {
        if (!this.#closed) this.#schedule();
      });
    });
  }

  async #tick(): Promise<void> {
    const { store, clock, log, events } = this.#options;
    try {
      const owner = this.#current;
      if (owner !== null) await this.#beat(owner);
      for (const old of this.#retiring) {
        if (events.inUse(old)) await this.#beat(old);
        else {
          await store.leave(old, clock.wall());
          this.#retiring.delete(old);
          events.onFreed();
        }
      }
      // After the beat: a clock that jumped must not end ourselves.
      if ((await store.expire(clock.wall())) > 0) events.onFreed();
      if (this.#away) log.info({}, 'the store of events is back');
      this.#away = false;
    } catch (error) {
      if (!this.#away) log.warn({ error: messageOf(error) }, 'the store of events is away: nothing is accepted or begun until it is back');
      this.#away = true;
    }
  }

  async #beat(owner: string): Promise<void> {
    const { store, clock } = this.#options;
    const heardAt = clock.now();
    if (!(await store.beat(owner, clock.wall() + OWNER_TTL_MS))) this.lost(owner);
    else if (owner === this.#current) this.#heardAt = heardAt;
  }

  /** Leaves: claims that are left are free at once. Does not throw where the store is away; then they are when their time is over. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancel();
    await this.#ticking;
    const { store, clock, log } = this.#options;
    for (const owner of [...(this.#current === null ? [] : [this.#current]), ...this.#retiring]) {
      try {
        await store.leave(owner, clock.wall());
      } catch (error) {
        log.warn({ owner, error: messageOf(error) }, 'the store of events cannot be told of the end; claims end by themselves');
      }
    }
  }
}

/** The store cannot be written now; it may be able to later. */
export const isStoreAway = (error: unknown): boolean => error instanceof FnError && error.code === 'store-unavailable';

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
