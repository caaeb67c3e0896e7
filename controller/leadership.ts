/**
 * One of several controllers leads: it holds a lease of the store that it renews. The lease decides who begins to
 * lead; that who was replaced changes nothing any more is the term's doing, whatever clocks say.
 *
 * Who leads counts by its own monotonic clock, from before it asked: where the store counts from when it was asked,
 * our own count ends first. A process that was frozen finds its time over before it does anything else.
 *
 * Where the lease is kept by something else than the store (Kubernetes), that may be away as a whole while the store is not.
 * Then nobody can get the lease, and whoever did get it would have raised the term: so who leads goes on for as long as the
 * store says that its term is the newest (HoldOver). Who stands by cannot begin to lead meanwhile.
 */
import type { Clock } from '#kit/clock.ts';
import { sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { Leadership } from './store/types.ts';

/** A leader that is gone is replaced after so long; a store that does not answer is waited for as long. */
export const LEASE_TTL_MS = 6_000;
/** While the store answers; after a failure it is tried at the pace of who waits. */
export const LEASE_RENEW_MS = 2_000;
/** A try that takes longer counts as failed; its answer counts when it comes. Three of them fit into a lease. */
export const LEASE_TRY_MS = 2_000;
/** How often who waits looks whether the lease is free. It asks the store only, which costs some 0.1 ms. */
export const CAMPAIGN_MS = 500;

/** Who waits for what is away says so this often, ms. */
const TELL_AGAIN_MS = 60_000;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** By what who leads goes on while who decides about the lease is away. */
export interface HoldOver {
  /** Whether an error says that it is away as a whole, so that nobody else gets the lease either. */
  isAway(error: unknown): boolean;
  /** Whether this leader's term is still the newest. */
  holdsTerm(): Promise<boolean>;
}

/** No answer within LEASE_TRY_MS. */
class TooLate extends Error {}

export interface LeaseOptions {
  /** Who decides about the lease. */
  leadership: Leadership;
  /** Of this process and no other, also not of the one that had its name before. */
  candidate: string;
  clock: Clock;
  log: Log;
  /** Whether who has the lease is certainly dead: then it is taken from it at once. */
  isDead?: (candidate: string) => boolean;
  /** null: the lease ends when it cannot be renewed, whatever the reason. */
  holdOver?: HoldOver | null;
  ttlMs?: number;
  renewMs?: number;
  campaignMs?: number;
  tryMs?: number;
}

export class Lease {
  readonly #options: Required<LeaseOptions>;
  /** By our clock. */
  #until = -Infinity;
  #cancel: (() => void)[] = [];
  #ended = false;
  /** A renewal that has not been answered: no other is begun beside it. */
  #asking: Promise<boolean> | null = null;
  #heldOver = false;

  constructor(options: LeaseOptions) {
    const times = { ttlMs: LEASE_TTL_MS, renewMs: LEASE_RENEW_MS, campaignMs: CAMPAIGN_MS, tryMs: LEASE_TRY_MS };
    this.#options = { isDead: () => false, holdOver: null, ...times, ...options };
  }

  /** True while the lease is certainly ours. */
  get held(): boolean {
    return !this.#ended && this.#options.clock.now() < this.#until;
  }

  /**
   * Waits until this process leads, however long; what is away is waited for. Returns who led before and has not given
   * it up; null: nobody that was seen. Rejects when `signal` is aborted.
   */
  async win(signal?: AbortSignal): Promise<string | null> {
    const { leadership, log, candidate, campaignMs, isDead, clock } = this.#options;
    let told: string | null = null;
    let toldAwayAt = -Infinity;
    let former: string | null = null;
    for (;;) {
      signal?.throwIfAborted();
      try {
        if (await this.#campaign()) {
          if (this.#isFresh) break;
          continue;
        }
        former = await leadership.leader();
        if (told !== former) log.info({ candidate, leader: former }, 'standing by');
        told = former;
        toldAwayAt = -Infinity;
        if (former !== null && isDead(former)) {
          await leadership.resign(former);
          continue;
        }
      } catch (error) {
        // What a connection says of its end is another thing each time.
        if (clock.now() - toldAwayAt >= TELL_AGAIN_MS) {
          toldAwayAt = clock.now();
          log.warn({ candidate, error: messageOf(error) }, 'nobody can be asked who leads: standing by');
        }
        told = null;
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
      const { lost, again } = await this.#renew();
      if (lost !== null) lose(lost);
      if (!this.#ended) this.#later(again ? campaignMs : renewMs, () => void renew());
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
    const { leadership, candidate, log } = this.#options;
    // A renewal that is still under way would take again what is given up; whatever it says, it is over then.
    if (this.#asking !== null) await this.#inTime(this.#asking).catch(() => {});
    await this.#inTime(leadership.resign(candidate)).catch((error: unknown) =>
      log.warn({ error: messageOf(error) }, 'the lease could not be given up'),
    );
  }

  /** Won, and heard of in time: there is time left for a renewal that fails, and for another one. */
  get #isFresh(): boolean {
    const { clock, ttlMs } = this.#options;
    return this.#until - clock.now() > ttlMs / 2;
  }

  async #campaign(): Promise<boolean> {
    const { leadership, candidate, ttlMs, clock } = this.#options;
    const asked = clock.now();
    const won = await leadership.campaign(candidate, ttlMs);
    if (won) this.#until = Math.max(this.#until, asked + ttlMs);
    return won;
  }

  /** `lost`: why it leads no more. `again`: it is to be tried at the pace of who waits; until the lease is over there are other tries. */
  async #renew(): Promise<{ lost: string | null; again: boolean }> {
    const { holdOver, log } = this.#options;
    try {
      this.#asking ??= this.#campaign().finally(() => (this.#asking = null));
      if (!(await this.#inTime(this.#asking))) return { lost: 'the lease is held by another controller', again: false };
      if (this.#heldOver) log.info({}, 'the lease is renewed again');
      this.#heldOver = false;
      return { lost: null, again: false };
    } catch (error) {
      if (holdOver !== null && (error instanceof TooLate || holdOver.isAway(error))) return this.#leadOn(holdOver, messageOf(error));
      log.warn({ error: messageOf(error) }, 'the lease could not be renewed');
      return { lost: null, again: true };
    }
  }

  /** Nobody can say whether the lease is ours. While the term is, nobody else has begun to lead. */
  async #leadOn(holdOver: HoldOver, why: string): Promise<{ lost: string | null; again: boolean }> {
    const { clock, ttlMs, log } = this.#options;
    const asked = clock.now();
    try {
      if (!(await this.#inTime(holdOver.holdsTerm()))) return { lost: 'another controller has raised the term', again: false };
      // What was over is over: who was frozen past it does not lead on by an answer that came after.
      if (this.held) this.#until = Math.max(this.#until, asked + ttlMs);
      if (!this.#heldOver) log.warn({ error: why }, 'the lease cannot be renewed: leading on while the term in the store is ours');
      this.#heldOver = true;
    } catch (error) {
      log.warn({ error: why, store: messageOf(error) }, 'the lease cannot be renewed, and the store cannot be asked for the term');
    }
    return { lost: null, again: true };
  }

  /** Rejects with TooLate; what was asked goes on. */
  #inTime<T>(asked: Promise<T>): Promise<T> {
    const { clock, tryMs } = this.#options;
    return new Promise((resolve, reject) => {
      const cancel = clock.after(tryMs, () => reject(new TooLate(`no answer within ${tryMs} ms`)));
      asked.then(resolve, reject).finally(cancel);
    });
  }

  #later(ms: number, run: () => void): void {
    const cancel = this.#options.clock.after(ms, () => {
      this.#cancel = this.#cancel.filter((one) => one !== cancel);
      run();
    });
    this.#cancel.push(cancel);
  }
}
