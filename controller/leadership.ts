/**
 * One of several controllers leads: it holds a lease of the store that it renews. The lease decides who begins to
 * lead; that who was replaced changes nothing any more is the term's doing, whatever clocks say.
 *
 * Who leads counts by its own monotonic clock, from before it asked: where the store counts from when it was asked,
 * our own count ends first. A process that was frozen finds its time over before it does anything else.
 */
import type { Clock } from '#kit/clock.ts';
import { sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { Leadership } from './store/types.ts';

/** A leader that is gone is replaced after so long; a store that does not answer is waited for as long. */
export const LEASE_TTL_MS = 6_000;
/** While the store answers; after a failure it is tried at the pace of who waits. */
export const LEASE_RENEW_MS = 2_000;
/** How often who waits looks whether the lease is free. It asks the store only, which costs some 0.1 ms. */
export const CAMPAIGN_MS = 500;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export interface LeaseOptions {
  store: Leadership;
  /** Of this process and no other, also not of the one that had its name before. */
  candidate: string;
  clock: Clock;
  log: Log;
  /** Whether who has the lease is certainly dead: then it is taken from it at once. */
  isDead?: (candidate: string) => boolean;
  ttlMs?: number;
  renewMs?: number;
  campaignMs?: number;
}

export class Lease {
  readonly #options: Required<LeaseOptions>;
  /** By our clock. */
  #until = -Infinity;
  #cancel: (() => void)[] = [];
  #ended = false;

  constructor(options: LeaseOptions) {
    this.#options = { isDead: () => false, ttlMs: LEASE_TTL_MS, renewMs: LEASE_RENEW_MS, campaignMs: CAMPAIGN_MS, ...options };
  }

  /** True while the lease is certainly ours. */
  get held(): boolean {
    return !this.#ended && this.#options.clock.now() < this.#until;
  }

  /**
   * Waits until this process leads, however long; a store that is away is waited for. Returns who led before and has not given
   * it up; null: nobody that was seen. Rejects when `signal` is aborted.
   */
  async win(signal?: AbortSignal): Promise<string | null> {
    const { store, log, candidate, campaignMs, isDead } = this.#options;
    let told: string | null = null;
    let former: string | null = null;
    for (;;) {
      signal?.throwIfAborted();
      try {
        if (await this.#campaign()) break;
        former = await store.leader();
        if (told !== former) log.info({ candidate, leader: former }, 'standing by');
        told = former;
        if (former !== null && isDead(former)) {
          await store.resign(former);
          continue;
        }
      } catch (error) {
        const why = messageOf(error);
        if (told !== why) log.warn({ candidate, error: why }, 'the store cannot be asked who leads: standing by');
        told = why;
      }
      await sleep(campaignMs, signal);
    }
    log.info({ candidate, former }, 'this controller leads');
    return former;
  }

  /** Renews it from now on. `onLost` is called once, when it is another's or was not renewed in time. */
  hold(onLost: (why: string) => void): void {
    const { clock, renewMs, campaignMs, ttlMs } = this.#options;
    const lose = (why: string) => {
      if (this.#ended) return;
      this.end();
      onLost(why);
    };
    const watch = () => {
      const left = this.#until - clock.now();
      if (left <= 0) lose(`the lease was not renewed within ${ttlMs} ms`);
      else this.#later(left, watch);
    };
    const renew = async () => {
      let next = renewMs;
      try {
        if (!(await this.#campaign())) lose('the lease is held by another controller');
      } catch (error) {
        // Until the lease is over there are other tries.
        next = campaignMs;
        this.#options.log.warn({ error: messageOf(error) }, 'the lease could not be renewed');
      }
      if (!this.#ended) this.#later(next, () => void renew());
    };
    watch();
    this.#later(renewMs, () => void renew());
  }

  /** No more renewals, and nobody hears of it. Idempotent. */
  end(): void {
    this.#ended = true;
    for (const cancel of this.#cancel.splice(0)) cancel();
  }

  /** Gives it up: another can lead at once. Where the store cannot be told, the lease ends by itself. */
  async resign(): Promise<void> {
    this.end();
    const { store, candidate, log } = this.#options;
    await store.resign(candidate).catch((error: unknown) => log.warn({ error: messageOf(error) }, 'the lease could not be given up'));
  }

  async #campaign(): Promise<boolean> {
    const { store, candidate, ttlMs, clock } = this.#options;
    const asked = clock.now();
    const won = await store.campaign(candidate, ttlMs);
    if (won) this.#until = asked + ttlMs;
    return won;
  }

  #later(ms: number, run: () => void): void {
    const cancel = this.#options.clock.after(ms, () => {
      this.#cancel = this.#cancel.filter((one) => one !== cancel);
      run();
    });
    this.#cancel.push(cancel);
  }
}
