/**
 * Who sends events, and remembers which were acknowledged. One that was not is sent again, with the same id, until it
 * is: as a client that must not lose one does. So some arrive twice, which is told apart from what the platform repeats.
 */
import { connect, type ConfirmChannel, type ChannelModel } from 'amqplib';
import { Redis } from 'ioredis';
import { Agent } from 'node:http';
import { call } from '../helpers/http.ts';
import { sleep } from '../helpers/wait.ts';

/** Sent at a time. */
const AT_A_TIME = 16;
/** Between two attempts of one event, ms. */
const AGAIN_MS = 100;
/** So long does one wait for an answer, ms: far longer than whoever should give it lets it wait. */
const PATIENCE_MS = 60_000;

export interface SendOptions {
  /** One in so many is poison. */
  poisonEvery: number;
  perSecond: number;
  /** What ids begin with. */
  prefix?: string;
}

export abstract class Sender {
  abstract readonly name: string;
  readonly acknowledged = new Set<string>();
  readonly poison = new Set<string>();
  /** Those that were sent more than once: without idempotency each time may have made an event. */
  readonly sentAgain = new Set<string>();
  /** Attempts that were not acknowledged. */
  refused = 0;
  /** The same, by what was said: `{"503 events-unavailable": 3}`. */
  readonly refusals: Record<string, number> = {};
  /** Longest that an attempt took, acknowledged or not, ms. */
  longestMs = 0;

  /** One attempt. False or what was said, or an error: it is not known to be there. */
  protected abstract one(id: string, body: string): Promise<boolean | string>;
  abstract close(): Promise<void>;
  #stopped = false;

  async send(count: number, { poisonEvery, perSecond, prefix = this.name }: SendOptions): Promise<void> {
    let next = 0;
    const began = performance.now();
    const work = async () => {
      while (next < count && !this.#stopped) {
        const number = next++;
        const id = `${prefix}-${number}`;
        const poison = number % poisonEvery === poisonEvery - 1;
        if (poison) this.poison.add(id);
        const early = began + (number * 1_000) / perSecond - performance.now();
        if (early > 1) await sleep(early);
        while (!(await this.#attempt(id, JSON.stringify(poison ? { id, poison } : { id })))) {
          this.refused += 1;
          this.sentAgain.add(id);
          await sleep(AGAIN_MS);
        }
        this.acknowledged.add(id);
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, work));
  }

  /** Not acknowledged, for whatever reason: counted, and tried again. */
  async #attempt(id: string, body: string): Promise<boolean> {
    const began = performance.now();
    const said = await this.one(id, body).catch((error: NodeJS.ErrnoException) => error.code ?? error.name);
    this.longestMs = Math.max(this.longestMs, performance.now() - began);
    if (said === true) return true;
    this.refusals[String(said)] = (this.refusals[String(said)] ?? 0) + 1;
    return false;
  }

  /** Stops when what is under way is: for senders without a number. */
  stop(): void {
    this.#stopped = true;
  }
}

/** `Prefer: respond-async`, with an Idempotency-Key: what is sent again makes no second event. */
export class ByHttp extends Sender {
  readonly name = 'http';
  readonly #url: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: AT_A_TIME });

  constructor(url: string) {
    super();
    this.#url = url;
  }

  protected async one(id: string, body: string): Promise<boolean | string> {
    const headers = { prefer: 'respond-async', 'content-type': 'application/json', 'idempotency-key': id };
    const answer = await call(this.#url, { method: 'POST', headers, body, agent: this.#agent, timeoutMs: PATIENCE_MS });
    return answer.status === 202 || `${answer.status} ${answer.json<{ code: string }>().code}`;
  }

  async close(): Promise<void> {
    this.#agent.destroy();
  }
}

export class ByRedisStream extends Sender {
  readonly name = 'stream';
  readonly #redis: Redis;
  readonly #stream: string;

  constructor(url: string, stream: string) {
    super();
    this.#stream = stream;
    this.#redis = new Redis(url, { maxRetriesPerRequest: 0, commandTimeout: 2_000, autoResendUnfulfilledCommands: false });
    // Each command tells of its own failure.
    this.#redis.on('error', () => {});
  }

  protected async one(_id: string, body: string): Promise<boolean> {
    // One field that holds the event: `field` is not set, so the function gets an object of all fields.
    const { id, poison } = JSON.parse(body) as { id: string; poison?: boolean };
    return (await this.#redis.xadd(this.#stream, '*', 'id', id, ...(poison ? ['poison', 'true'] : []))) !== null;
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
  }
}

export class ByAmqp extends Sender {
  readonly name = 'queue';
  readonly #url: string;
  readonly #queue: string;
  #open: Promise<{ model: ChannelModel; channel: ConfirmChannel }> | null = null;

  constructor(url: string, queue: string) {
    super();
    this.#url = url;
    this.#queue = queue;
  }

  async #connect(): Promise<{ model: ChannelModel; channel: ConfirmChannel }> {
    const model = await connect(this.#url, { timeout: 2_000 });
    const lost = () => {
      this.#open = null;
    };
    model.on('error', lost);
    model.on('close', lost);
    const channel = await model.createConfirmChannel();
    channel.on('error', lost);
    await channel.assertQueue(this.#queue, { durable: true });
    return { model, channel };
  }

  protected async one(id: string, body: string): Promise<boolean> {
    this.#open ??= this.#connect();
    const open = this.#open;
    try {
      const { channel } = await open;
      await new Promise<void>((resolve, reject) => {
        const late = setTimeout(() => reject(new Error('not confirmed')), 5_000);
        const options = { persistent: true, messageId: id, contentType: 'application/json' };
        channel.sendToQueue(this.#queue, Buffer.from(body), options, (error) => {
          clearTimeout(late);
          if (error) reject(error instanceof Error ? error : new Error(String(error)));
          else resolve();
        });
      });
      return true;
    } catch (error) {
      if (this.#open === open) this.#open = null;
      throw error;
    }
  }

  async close(): Promise<void> {
    // One that broke has nothing to be closed.
    const open = await this.#open?.catch(() => null);
    await open?.model.close().catch(() => {});
  }
}
