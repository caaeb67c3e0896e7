/**
 * The account of one function (or of the pool, which is nobody's): totals, and how far each source was counted. A source has a counter
 * of its own that only rises: an instance's is the kernel's, a gateway's is the number of its batch. Both are in one row of the
 * store, which is written at once: after a crash nothing is counted twice, whatever of it was written.
 */
import { z } from 'zod';
import type { CallCounts } from '#contract/stats.ts';
import type { Usage } from '../driver/types.ts';
import { addCounts, Totals, zero } from './totals.ts';

const MIB = 1_024 * 1_024;

/** Gateways of which is remembered how far they were counted; the one that was heard longest ago goes. */
const MAX_GATEWAYS = 64;

/** How far an instance was counted. */
export const Meter = z.object({
  /** Its revision; null in the account of the pool. */
  number: z.number().int().nullable(),
  /** Which counter `cpuUs` is of; '': none was read yet. */
  counter: z.string(),
  cpuUs: z.number(),
  usedBytes: z.number(),
  memoryMib: z.number(),
  /** Until when its memory was added up. In memory monotonic, in the store milliseconds since 1970. */
  at: z.number(),
});
export type Meter = z.infer<typeof Meter>;

const StoredAccount = z.object({
  since: z.number(),
  deletedAt: z.number().nullable(),
  total: Totals,
  /** By number, of those that are kept. */
  revisions: z.record(z.string(), Totals),
  /** By instance. */
  meters: z.record(z.string(), Meter),
  /** Number of the last batch, by gateway. */
  gateways: z.record(z.string(), z.number()),
});

/** Clocks of one moment: what is stored counts by the wall, what happens by the other. */
export interface Moment {
  now: number;
  wall: number;
}

export class Account {
  readonly since: number;
  deletedAt: number | null = null;
  total: Totals = zero();
  readonly revisions = new Map<number, Totals>();
  readonly meters = new Map<string, Meter>();
  readonly #gateways = new Map<string, number>();

  constructor(since: number) {
    this.since = since;
  }

  /** Throws where it is not what text() has written. */
  static parse(text: string, { now, wall }: Moment): Account {
    const stored = StoredAccount.parse(JSON.parse(text));
    const account = new Account(stored.since);
    account.deletedAt = stored.deletedAt;
    account.total = stored.total;
    for (const [number, totals] of Object.entries(stored.revisions)) account.revisions.set(Number(number), totals);
    // An instance goes on while no controller is there. A wall clock that was set back would take something away again.
    for (const [id, meter] of Object.entries(stored.meters)) account.meters.set(id, { ...meter, at: now - Math.max(0, wall - meter.at) });
    for (const [gateway, seq] of Object.entries(stored.gateways)) account.#gateways.set(gateway, seq);
    return account;
  }

  text({ now, wall }: Moment): string {
    const meters = [...this.meters].map(([id, meter]) => [id, { ...meter, at: Math.round(wall - (now - meter.at)) }]);
    return JSON.stringify({
      since: this.since,
      deletedAt: this.deletedAt,
      total: this.total,
      revisions: Object.fromEntries(this.revisions),
      meters: Object.fromEntries(meters),
      gateways: Object.fromEntries(this.#gateways),
    } satisfies z.input<typeof StoredAccount>);
  }

  #revision(number: number): Totals {
    let totals = this.revisions.get(number);
    if (totals === undefined) this.revisions.set(number, (totals = zero()));
    return totals;
  }

  /** The totals that something of a revision belongs to. */
  #each(number: number | null): Totals[] {
    return number === null ? [this.total] : [this.total, this.#revision(number)];
  }

  started(number: number): void {
    for (const totals of this.#each(number)) totals.started += 1;
  }

  /** False where the batch was counted before. `counts`: all that it has of this function. */
  counted(gateway: string, seq: number, counts: readonly { number: number; counts: CallCounts }[]): boolean {
    if ((this.#gateways.get(gateway) ?? 0) >= seq) return false;
    this.#gateways.delete(gateway);
    this.#gateways.set(gateway, seq);
    for (const oldest of this.#gateways.keys()) {
      if (this.#gateways.size <= MAX_GATEWAYS) break;
      this.#gateways.delete(oldest);
    }
    for (const one of counts) for (const totals of this.#each(one.number)) addCounts(totals, one.counts);
    return true;
  }

  /** What an instance has used, as of `now`. One that is not known here is nothing of ours. */
  read(id: string, usage: Usage, now: number): void {
    const meter = this.meters.get(id);
    if (meter === undefined) return;
    // A counter that is another one began at nought. One and the same cannot fall: what seems so is a process whose time went elsewhere.
    const cpuUs = usage.counter === meter.counter ? Math.max(0, usage.cpuUs - meter.cpuUs) : usage.cpuUs;
    const first = meter.counter === '';
    this.#remember(meter, now, first ? usage.memoryBytes : (meter.usedBytes + usage.memoryBytes) / 2);
    for (const totals of this.#each(meter.number)) {
      totals.cpuUs += cpuUs;
      totals.peakBytes = Math.max(totals.peakBytes, usage.peakBytes ?? usage.memoryBytes);
    }
    meter.cpuUs = usage.counter === meter.counter ? Math.max(meter.cpuUs, usage.cpuUs) : usage.cpuUs;
    meter.counter = usage.counter;
    meter.usedBytes = usage.memoryBytes;
  }

  /** Time has passed for an instance of which nothing was read. */
  pass(id: string, now: number, memoryMib?: number): void {
    const meter = this.meters.get(id);
    if (meter === undefined) return;
    this.#remember(meter, now, meter.usedBytes);
    if (memoryMib !== undefined) meter.memoryMib = memoryMib;
  }

  #remember(meter: Meter, now: number, usedBytes: number): void {
    const ms = Math.max(0, now - meter.at);
    for (const totals of this.#each(meter.number)) {
      totals.reservedMibMs += meter.memoryMib * ms;
      totals.usedMibMs += (usedBytes / MIB) * ms;
    }
    meter.at = Math.max(meter.at, now);
  }

  /** Forgets revisions that are not kept and have no instance any more; the total keeps what they used. True where it did. */
  prune(kept: ReadonlySet<number>): boolean {
    const live = new Set([...this.meters.values()].map(({ number }) => number));
    const gone = [...this.revisions.keys()].filter((number) => !kept.has(number) && !live.has(number));
    for (const number of gone) this.revisions.delete(number);
    return gone.length > 0;
  }
}
