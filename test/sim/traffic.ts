/** Many gateways and the requests that come to them. */
import { exponential, picker, seeded, zipfShares } from './random.ts';
import { SimGateway, type Served, type Traffic } from './gateway.ts';
import { nameOf } from './platform.ts';
import type { Shape } from './shape.ts';
import { summarise, type Summary } from '../bench/stats.ts';

/** Requests that fall due are sent so often, ms. */
const TICK_MS = 4;

export interface TrafficFigures {
  seconds: number;
  requestsPerSecond: number;
  /** How requests got their slot: by a lease that was held, by a new one of an instance that was up, by a start. */
  kinds: Record<Served['kind'], { count: number; waitMs: Summary }>;
  failed: Record<string, number>;
  /** Of all links together. */
  link: Traffic;
  /** Requests that wait or are in flight now. */
  open: number;
}

export class SimTraffic {
  readonly gateways: SimGateway[];
  readonly #shape: Shape;
  readonly #random: () => number;
  readonly #pick: () => number;
  readonly #gapMs: number;
  #waits: Record<Served['kind'], number[]> = { held: [], warm: [], pooled: [], full: [] };
  #failed: Record<string, number> = {};
  #before: Traffic = {};
  #from = 0;
  #timer: NodeJS.Timeout | null = null;
  #dueAt = 0;

  constructor(shape: Shape, requestsPerSecond: number, path: string) {
    this.#shape = shape;
    this.#random = seeded(shape.seed);
    this.#pick = picker(zipfShares(shape.functions, shape.skew), this.#random);
    this.#gapMs = 1_000 / requestsPerSecond;
    const events = {
      served: ({ kind, waitMs }: Served) => void this.#waits[kind].push(waitMs),
      failed: (why: string) => void (this.#failed[why] = (this.#failed[why] ?? 0) + 1),
    };
    this.gateways = Array.from({ length: shape.gateways }, (_, index) => new SimGateway(`g${index}`, path, events));
  }

  async connect(): Promise<void> {
    await Promise.all(this.gateways.map((gateway) => gateway.connect()));
  }

  start(): void {
    this.#dueAt = performance.now();
    this.#timer = setInterval(() => {
      for (const now = performance.now(); this.#dueAt <= now; this.#dueAt += exponential(this.#random, this.#gapMs)) {
        const gateway = this.gateways[Math.floor(this.#random() * this.gateways.length)]!;
        gateway.request(`default/${nameOf(this.#pick())}`, exponential(this.#random, this.#shape.serviceMs));
      }
    }, TICK_MS);
  }

  /** No more requests; those that are there go on. */
  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  get open(): number {
    return this.gateways.reduce((sum, gateway) => sum + gateway.open, 0);
  }

  /** Leases that gateways hold. */
  get leases(): number {
    return this.gateways.reduce((sum, gateway) => sum + gateway.table.size, 0);
  }

  begin(): void {
    this.#waits = { held: [], warm: [], pooled: [], full: [] };
    this.#failed = {};
    this.#before = this.#traffic();
    this.#from = performance.now();
  }

  end(): TrafficFigures {
    const seconds = (performance.now() - this.#from) / 1_000;
    const kinds = Object.fromEntries(
      Object.entries(this.#waits).map(([kind, waits]) => [kind, { count: waits.length, waitMs: summarise(waits) }]),
    ) as TrafficFigures['kinds'];
    const link: Traffic = {};
    for (const [type, { messages, bytes }] of Object.entries(this.#traffic())) {
      const before = this.#before[type] ?? { messages: 0, bytes: 0 };
      if (messages > before.messages) link[type] = { messages: messages - before.messages, bytes: bytes - before.bytes };
    }
    const served = Object.values(kinds).reduce((sum, { count }) => sum + count, 0);
    return { seconds, requestsPerSecond: served / seconds, kinds, failed: { ...this.#failed }, link, open: this.open };
  }

  #traffic(): Traffic {
    const all: Traffic = {};
    for (const { traffic } of this.gateways) {
      for (const [type, { messages, bytes }] of Object.entries(traffic)) {
        const entry = (all[type] ??= { messages: 0, bytes: 0 });
        entry.messages += messages;
        entry.bytes += bytes;
      }
    }
    return all;
  }

  close(): void {
    this.stop();
    for (const gateway of this.gateways) gateway.close();
  }
}
