/**
 * A gateway as the controller sees it: the real table of leases over a real socket, and requests that only take their
 * time. It counts what goes over its link, and how long requests waited for a slot.
 */
import { connect, type Socket } from 'node:net';
import type { CallRecord, StartInfo } from '#contract/call.ts';
import { ControllerMessage, MAX_LINK_LINE_BYTES, type GatewayMessage, type Route } from '#contract/link.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { systemClock } from '#kit/clock.ts';
import { encodeLine, LineSplitter } from '#kit/ndjson.ts';
import type { HeldLease, Waiter } from '../../gateway/demand.ts';
import { LeaseTable } from '../../gateway/leases.ts';
import type { Place } from '../../gateway/queue.ts';

/** As gateway/journal.ts has it: records of requests that waited for a start are sent so often, ms, so many at a time. */
const SHIP_EVERY_MS = 250;
const SHIP_AT_MOST = 200;
/** Between attempts to reach the controller again, ms. */
const RECONNECT_MS = 50;
/** A request gives up after this, ms. */
const GIVE_UP_MS = 30_000;

interface Line {
  close(): void;
}

export interface Served {
  waitMs: number;
  kind: StartInfo['kind'] | 'held';
}

export interface Snapshot {
  bytes: number;
  /** From the connection to the last byte of the welcome, and what reading it took: JSON alone, and checked against the contract. */
  waitMs: number;
  jsonMs: number;
  checkMs: number;
}

export interface GatewayEvents {
  served(request: Served): void;
  failed(why: string): void;
}

/** Messages and bytes, by direction and type. */
export type Traffic = Record<string, { messages: number; bytes: number }>;

export class SimGateway {
  readonly id: string;
  readonly table: LeaseTable<Line>;
  readonly traffic: Traffic = {};
  /** Of the newest welcome. */
  snapshot: Snapshot | null = null;
  up = false;
  /** Requests that wait or are in flight. */
  open = 0;
  readonly #path: string;
  readonly #events: GatewayEvents;
  readonly #routes = new Map<string, { revision: string; maxSlots: number }>();
  readonly #calls: CallRecord[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  #socket: Socket | null = null;
  #closed = false;
  #connectedAt = 0;
  #term = 0;
  #sequence = 0;
  /** Resolve at the next welcome. */
  #welcomed: (() => void)[] = [];

  constructor(id: string, path: string, events: GatewayEvents) {
    this.id = id;
    this.#path = path;
    this.#events = events;
    this.table = new LeaseTable<Line>({
      clock: systemClock,
      limits: { maxWaitingPerFunction: 10_000, maxWaiting: 100_000 },
      connect: () => ({ close: () => {} }),
      send: (message) => this.#send(message),
    });
    this.#timers.add(setInterval(() => this.#ship(), SHIP_EVERY_MS));
  }

  /** Resolves at the welcome. */
  connect(): Promise<void> {
    const welcome = new Promise<void>((resolve) => void this.#welcomed.push(resolve));
    this.#dial();
    return welcome;
  }

  /** The link breaks; it is dialled again at once. Resolves at the next welcome. */
  reconnect(): Promise<void> {
    const welcome = new Promise<void>((resolve) => void this.#welcomed.push(resolve));
    this.#socket?.destroy();
    return welcome;
  }

  welcome(): Promise<void> {
    return new Promise((resolve) => void this.#welcomed.push(resolve));
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    this.#socket?.destroy();
  }

  #dial(): void {
    const splitter = new LineSplitter(MAX_LINK_LINE_BYTES);
    const socket = connect(this.#path);
    this.#socket = socket;
    socket.on('connect', () => {
      this.#connectedAt = performance.now();
      this.#write({ type: 'hello', gateway: this.id, boot: 'boot', pid: process.pid, term: this.#term, held: this.table.held() });
    });
    socket.on('data', (chunk: Buffer) => {
      for (const line of splitter.push(chunk)) this.#receive(line);
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      if (this.up) this.table.linkDown();
      this.up = false;
      if (!this.#closed) setTimeout(() => this.#dial(), RECONNECT_MS);
    });
  }

  #count(direction: 'from' | 'to', type: string, bytes: number): void {
    const entry = (this.traffic[`${direction} gateway: ${type}`] ??= { messages: 0, bytes: 0 });
    entry.messages += 1;
    entry.bytes += bytes;
  }

  #send(message: GatewayMessage): boolean {
    if (!this.up) return false;
    this.#write(message);
    return true;
  }

  #write(message: GatewayMessage): void {
    const line = encodeLine(message);
    this.#count('from', message.type, line.length);
    this.#socket?.write(line);
  }

  #receive(line: string): void {
    const begun = performance.now();
    const message = JSON.parse(line) as ControllerMessage;
    const parsed = performance.now();
    this.#count('to', message.type, line.length + 1);
    this.#term = message.term;
    switch (message.type) {
      case 'welcome': {
        ControllerMessage.parse(message);
        const checkMs = performance.now() - parsed;
        this.snapshot = { bytes: line.length, waitMs: begun - this.#connectedAt, jsonMs: parsed - begun, checkMs };
        this.#routes.clear();
        this.#route(message.routes);
        this.up = true;
        this.table.linkUp(message.keep);
        this.#send({ type: 'routed', version: message.version });
        for (const resolve of this.#welcomed.splice(0)) resolve();
        break;
      }
      case 'routes':
        this.#route(message.set);
        this.#send({ type: 'routed', version: message.version });
        break;
      case 'grant':
        this.table.grant(message.lease, message.start);
        break;
      case 'revoke':
        this.table.revoke(message.lease, message.slots, message.deadlineMs);
        break;
      case 'gone':
        this.table.gone(message.instance, { cause: message.cause, detail: message.detail });
        break;
      case 'clear':
        this.table.clear(message.instance);
        break;
      case 'fail':
        this.table.fail(message.revision, message.problem, message.retryAfterSeconds);
        break;
      case 'settings':
      case 'certificates':
      case 'recall':
        break;
    }
  }

  #route(routes: readonly Route[]): void {
    for (const { namespace, name, targets } of routes) {
      const target = targets.find(({ percent }) => percent > 0);
      const before = this.#routes.get(`${namespace}/${name}`);
      if (target) this.#routes.set(`${namespace}/${name}`, { revision: target.revision, maxSlots: target.maxSlots });
      if (before && before.revision !== target?.revision) this.table.reroute(before.revision);
    }
  }

  /** One request; it is over when it has had a slot for so long. */
  request(name: string, serviceMs: number): void {
    this.open += 1;
    this.#ask(name, serviceMs, performance.now());
  }

  #ask(name: string, serviceMs: number, since: number): void {
    const route = this.#routes.get(name);
    if (!route) return this.#fail('there is no route');
    const serve = (lease: HeldLease<Line>, kind: Served['kind']) => {
      this.#events.served({ waitMs: performance.now() - since, kind });
      setTimeout(() => {
        this.open -= 1;
        this.table.free(lease, serviceMs);
      }, serviceMs);
    };
    let giveUp: NodeJS.Timeout | null = null;
    const left = () => giveUp !== null && clearTimeout(giveUp);
    const waiter: Waiter<Line> & { place: Place | null } = {
      place: null,
      giveUpAt: since + GIVE_UP_MS,
      onLease: (lease, start) => {
        left();
        serve(lease, start?.kind ?? 'warm');
        if (start !== null && start.kind !== 'warm') this.#record(route.revision, lease.instance.id, start, performance.now() - since);
      },
      onFail: (problem) => {
        left();
        this.#fail(problem.code);
      },
      onReroute: () => {
        left();
        this.#ask(name, serviceMs, since);
      },
    };
    const acquired = this.table.acquire(waiter, route);
    if (acquired === 'waiting') {
      giveUp = setTimeout(() => {
        this.table.cancel(waiter, route.revision);
        this.#fail('queue-timeout');
      }, GIVE_UP_MS);
      // Who still waits when the run is over holds nobody up.
      giveUp.unref();
    } else if (typeof acquired === 'string') this.#fail(acquired);
    else serve(acquired, 'held');
  }

  #fail(why: string): void {
    this.open -= 1;
    this.#events.failed(why);
  }

  /** What gateways tell of a request that waited for a start. */
  #record(revision: string, instance: string, start: StartInfo, queueMs: number): void {
    const { namespace, name } = parseRevisionKey(revision);
    this.#sequence += 1;
    this.#calls.push({
      id: `${this.id}-${this.#sequence}`,
      t: Date.now(),
      gateway: this.id,
      namespace,
      name,
      revision,
      instance,
      method: 'GET',
      path: `/${name}`,
      status: 200,
      start,
      queueMs,
      handlerMs: 1,
      streamMs: 0,
      totalMs: queueMs + 1,
    });
  }

  #ship(): void {
    while (this.up && this.#calls.length > 0) this.#send({ type: 'calls', calls: this.#calls.splice(0, SHIP_AT_MOST), skipped: 0 });
  }
}
