/** For tests of triggers: a host without a dispatcher around it, and a broker in memory. */
import { FnError, problem } from '#contract/errors.ts';
import { decodeBody } from '#kit/event-body.ts';
import { systemClock } from '#kit/clock.ts';
import type { Clock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import type { EnqueueOutcome, NewDeadLetter, NewEvent } from '../store/events.ts';
import type { OutgoingEvent, Source, SourceMessage } from '../triggers/types.ts';
import type { Delivery, DeliveryResult, FunctionEvents, TriggerHost } from './types.ts';

export interface TestEvent {
  id: string;
  attempt: number;
  data: string;
}

/** A message of a queue in memory, delivered for the first time. */
export function sourceMessage(id: string, data: string | Uint8Array, extra: Partial<SourceMessage> = {}): SourceMessage {
  return {
    id,
    source: 'memory://queue',
    type: 'fn.redis-stream',
    subject: null,
    time: null,
    contentType: null,
    data: Buffer.from(data),
    extensions: {},
    deliveries: 1,
    orderKey: null,
    ...extra,
  };
}

/** Events of a delivery, whichever mode it is in. */
export function eventsOf({ request }: Delivery): TestEvent[] {
  const body = decodeBody(request.body).toString('utf8');
  const header = (name: string) => request.headers[request.headers.indexOf(name) + 1] ?? '';
  if (header('content-type') !== 'application/cloudevents-batch+json')
    return [{ id: header('ce-id'), attempt: Number(header('ce-attempt')), data: body }];
  const items = JSON.parse(body) as { id: string; attempt: number; data?: unknown }[];
  return items.map(({ id, attempt, data }) => ({ id, attempt, data: typeof data === 'string' ? data : JSON.stringify(data) }));
}

export const answered = (status: number, body: unknown = ''): DeliveryResult => ({
  requestId: 'r-1',
  revision: 'default/orders@1',
  response: {
    status,
    headers: [],
    body: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
    truncated: false,
  },
  problem: null,
  retryAfterSeconds: null,
  waitedMs: 0,
  ranMs: 1,
});

export const undelivered = (code: Parameters<typeof problem>[0], retryAfterSeconds: number | null = null): DeliveryResult => ({
  requestId: null,
  revision: null,
  response: null,
  problem: problem(code, 'it was not delivered'),
  retryAfterSeconds,
  waitedMs: 0,
  ranMs: 0,
});

/** What a function does with a delivery. */
export type Answering = (events: TestEvent[], delivery: Delivery) => DeliveryResult | Promise<DeliveryResult>;

export class TestHost implements TriggerHost {
  readonly installation = 'test';
  readonly consumer: string;
  readonly clock: Clock;
  readonly log = silentLog;
  readonly dead: NewDeadLetter[] = [];
  readonly enqueued: NewEvent[] = [];
  readonly published: OutgoingEvent[] = [];
  readonly state = new Map<string, string>();
  readonly secrets: Record<string, string> = {};
  /** What fails while this is there. */
  away: FnError | null = null;
  /** Calls that are under way, and the most at a time. */
  calls = 0;
  mostCalls = 0;
  #answering: Answering = () => answered(200);

  constructor(clock: Clock = systemClock, consumer = 'd-1') {
    this.clock = clock;
    this.consumer = consumer;
  }

  answer(answering: Answering): void {
    this.#answering = answering;
  }

  readonly deliverer = {
    connected: true,
    deliver: async (delivery: Delivery, signal?: AbortSignal): Promise<DeliveryResult> => {
      this.calls += 1;
      this.mostCalls = Math.max(this.mostCalls, this.calls);
      const aborted = new Promise<DeliveryResult>((resolve) => {
        signal?.addEventListener('abort', () => resolve(undelivered('shutting-down')), { once: true });
      });
      try {
        return await Promise.race([aborted, this.#answering(eventsOf(delivery), delivery)]);
      } finally {
        this.calls -= 1;
      }
    },
  };

  readonly store = {
    addDead: async (letters: readonly NewDeadLetter[]): Promise<string[]> => {
      if (this.away !== null) throw this.away;
      const fresh = letters.filter(({ message }) => this.dead.every((other) => other.message !== message));
      this.dead.push(...fresh);
      return letters.map(({ event }) => event.id);
    },
    getState: async (key: string): Promise<string | null> => {
      if (this.away !== null) throw this.away;
      return this.state.get(key) ?? null;
    },
    putState: async (key: string, value: string): Promise<void> => {
      if (this.away !== null) throw this.away;
      this.state.set(key, value);
    },
    deleteState: async (prefix: string): Promise<void> => {
      for (const key of this.state.keys()) if (key.startsWith(prefix)) this.state.delete(key);
    },
  };

  async enqueue(events: readonly NewEvent[]): Promise<EnqueueOutcome[]> {
    if (this.away !== null) throw this.away;
    return events.map((event): EnqueueOutcome => {
      const same = this.enqueued.find(
        (other) =>
          other.id === event.id || (event.dedup !== null && other.trigger === event.trigger && other.dedup?.key === event.dedup.key),
      );
      if (same !== undefined) return { outcome: 'duplicate', id: same.id };
      this.enqueued.push(event);
      return { outcome: 'enqueued', id: event.id, claim: null };
    });
  }

  fill<T>(_namespace: string, trigger: T): T {
    return trigger;
  }

  secret(namespace: string, name: string): string {
    const value = this.secrets[`${namespace}/${name}`];
    if (value === undefined) throw new FnError('secret-not-found', `there is no secret ${name}`);
    return value;
  }

  resolveFor() {
    return async (host: string) => ({ host, servername: undefined });
  }

  async publish(_of: FunctionEvents, _destination: unknown, event: OutgoingEvent): Promise<void> {
    if (this.away !== null) throw this.away;
    this.published.push(event);
  }
}

/** A broker with one queue in memory: at least once, in order, and away when it is told to be. */
export class MemoryBroker {
  waiting: SourceMessage[] = [];
  readonly taken = new Map<string, SourceMessage>();
  readonly acknowledged: string[] = [];
  away: Error | null = null;
  /** Acknowledgements fail so often from now on, though receiving works. */
  failAcks = 0;
  touches = 0;
  opened = 0;
  #wake: () => void = () => {};

  send(id: string, data: string | Uint8Array, extra: Partial<SourceMessage> = {}): void {
    this.waiting.push(sourceMessage(id, data, extra));
    this.#wake();
  }

  /** As after a connection that broke: what was taken comes again. */
  redeliver(): void {
    this.waiting.unshift(...[...this.taken.values()].map((message) => ({ ...message, deliveries: message.deliveries + 1 })));
    this.taken.clear();
    this.#wake();
  }

  readonly open = async (): Promise<Source> => {
    this.opened += 1;
    let closed = false;
    return {
      touchEveryMs: 100,
      receive: async (max, waitMs, signal) => {
        if (this.away !== null) throw this.away;
        if (this.waiting.length === 0 && !signal.aborted && !closed)
          await new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, waitMs);
            const done = () => {
              clearTimeout(timer);
              resolve();
            };
            this.#wake = done;
            signal.addEventListener('abort', done, { once: true });
          });
        if (signal.aborted || closed) return [];
        const messages = this.waiting.splice(0, max);
        for (const message of messages) this.taken.set(message.id, message);
        return messages;
      },
      ack: async (messages) => {
        if (this.away !== null) throw this.away;
        if (this.failAcks > 0) {
          this.failAcks -= 1;
          throw new Error('the acknowledgement was lost');
        }
        for (const { id } of messages) if (this.taken.delete(id)) this.acknowledged.push(id);
      },
      release: async (messages) => {
        for (const message of messages) if (this.taken.delete(message.id)) this.waiting.push(message);
      },
      touch: async (messages) => {
        this.touches += messages.length;
      },
      lag: async () => this.waiting.length,
      close: async () => {
        closed = true;
        this.waiting.unshift(...this.taken.values());
        this.taken.clear();
      },
    };
  };
}

export const functionOf = (more: Partial<FunctionEvents>, async: FunctionEvents['async']): FunctionEvents => ({
  namespace: 'default',
  name: 'orders',
  async,
  triggers: [],
  maxSlots: 100,
  instanceSlots: 10,
  timeoutMs: 1_000,
  networks: null,
  ...more,
});
