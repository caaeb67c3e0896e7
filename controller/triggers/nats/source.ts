/** Messages of a NATS JetStream stream, by a durable consumer that is asked for as many as are wanted. */
import { AckPolicy, type ConsumerConfig, DeliverPolicy, type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import { type Msg, type NatsConnection, type Subscription, createInbox, nanos } from '@nats-io/transport-node';
import type { TriggerOf } from '#contract/trigger.ts';
import { BrokerConnection, Inbox, REQUEST_TIMEOUT_MS, brokerError } from '../broker-connection.ts';
import { toSourceMessage } from '../broker-message.ts';
import type { OpenSource, Source, SourceMessage, SourceOptions } from '../types.ts';
import { dialNats, natsName } from './dial.ts';
import { readHeaders } from './headers.ts';

/** What is neither acknowledged nor touched for so long goes to another. */
const ACK_WAIT_MS = 30_000;
const TOUCH_EVERY_MS = 10_000;
/** Most messages that are taken and not acknowledged, by all consumers of a trigger. */
const MAX_ACK_PENDING = 10_000;
/** Messages of one answer arrive one after the other: it is over when none has come for so long. */
const SETTLE_MS = 5;
/** How long a request for what is there at once may take. */
const AT_ONCE_MS = 2_000;

type NatsTrigger = TriggerOf<'nats'>;

interface Connected {
  nats: NatsConnection;
  manager: JetStreamManager;
  /** Subject on which messages come that were asked for; the end of it is the number of the request. */
  inbox: string;
  subscription: Subscription;
}

/** A message that is taken: where its acknowledgement goes, and until when it is ours. */
interface Taken {
  message: Msg;
  reply: string;
  /** Monotonic milliseconds. */
  until: number;
}

/** What the trigger's consumer must be, so that nothing is lost. */
function consumerOf({ subject, startFrom }: NatsTrigger): Partial<ConsumerConfig> {
  return {
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(ACK_WAIT_MS),
    max_ack_pending: MAX_ACK_PENDING,
    max_deliver: -1,
    deliver_policy: startFrom === 'beginning' ? DeliverPolicy.All : DeliverPolicy.New,
    ...(subject === null ? {} : { filter_subject: subject }),
  };
}

/** What the subject for the acknowledgement says: $JS.ACK[.DOMAIN.ACCOUNT].STREAM.CONSUMER.DELIVERIES.SEQUENCE.…NANOSECONDS.PENDING */
function readReply(reply: string): { sequence: string; deliveries: number; time: number } {
  const words = reply.split('.');
  const at = words.length > 9 ? 4 : 2;
  return { deliveries: Number(words[at + 2]), sequence: words[at + 3]!, time: Math.floor(Number(words[at + 5]) / 1_000_000) };
}

const isMissing = (error: unknown, what: 'stream' | 'consumer'): boolean =>
  error instanceof Error && new RegExp(`${what} not found`, 'i').test(error.message);

class NatsSource implements Source {
  readonly touchEveryMs = TOUCH_EVERY_MS;
  readonly #options: SourceOptions<NatsTrigger>;
  readonly #broker: string;
  readonly #durable: string;
  readonly #connection: BrokerConnection<Connected>;
  readonly #inbox = new Inbox<Taken>();
  readonly #taken = new Map<SourceMessage, Taken>();
  #requests = 0;
  /** Request that waits for a message that is not there yet; null: none does. */
  #waiting: string | null = null;
  /** What came and is nobody's, once it is being closed. */
  #unread: Taken[] | null = null;

  constructor(options: SourceOptions<NatsTrigger>) {
    const { trigger, namespace, name, clock } = options;
    this.#options = options;
    this.#broker = natsName(trigger.url);
    this.#durable = trigger.consumer ?? `fn-${namespace}-${name}-${trigger.name}`;
    this.#connection = new BrokerConnection({
      open: () => this.#open(),
      // Who closes it does not care how it went before.
      end: ({ nats }) => nats.close().catch(() => {}),
      clock,
    });
  }

  async #open(): Promise<Connected> {
    const nats = await dialNats(this.#options.trigger.url, this.#options.resolve);
    try {
      const manager = await jetstreamManager(nats, { checkAPI: false, timeout: REQUEST_TIMEOUT_MS });
      await this.#findConsumer(manager);
      const inbox = createInbox();
      const subscription = nats.subscribe(`${inbox}.*`, { callback: (error, message) => this.#arrived(error, message) });
      const connected = { nats, manager, inbox, subscription };
      void nats.closed().then((reason) => {
        this.#connection.lost(connected);
        this.#waiting = null;
        this.#inbox.fail(brokerError(this.#broker, reason ?? new Error('the connection was lost')));
      });
      return connected;
    } catch (error) {
      await nats.close().catch(() => {});
      throw brokerError(this.#broker, error);
    }
  }

  /** Finds the durable consumer, makes it where it is missing, and sees to it that it is such as messages are not lost with. */
  async #findConsumer(manager: JetStreamManager): Promise<void> {
    const { stream, subject } = this.#options.trigger;
    const wanted = consumerOf(this.#options.trigger);
    try {
      await manager.streams.info(stream);
    } catch (error) {
      const hint = `make it first, e.g. nats stream add ${stream}`;
      throw isMissing(error, 'stream') ? new Error(`there is no stream ${stream}: ${hint}`, { cause: error }) : error;
    }
    let config: ConsumerConfig;
    try {
      config = (await manager.consumers.info(stream, this.#durable)).config;
    } catch (error) {
      if (!isMissing(error, 'consumer')) throw error;
      await manager.consumers.add(stream, { durable_name: this.#durable, ...wanted });
      return;
    }
    if (config.deliver_subject !== undefined || config.ack_policy !== AckPolicy.Explicit) {
      throw new Error(`consumer ${this.#durable} of stream ${stream} is not one that is asked and acknowledges each message: name another`);
    }
    if ((config.filter_subject ?? null) !== subject || config.ack_wait !== wanted.ack_wait) {
      const { deliver_policy: _fixed, ...changeable } = wanted;
      await manager.consumers.update(stream, this.#durable, { ...changeable, filter_subject: subject ?? '' });
    }
  }

  #arrived(error: Error | null, message: Msg): void {
    if (error !== null) return this.#inbox.fail(brokerError(this.#broker, error));
    const status = message.headers?.code ?? 0;
    if (message.reply !== undefined && message.reply !== '' && status === 0) {
      this.#waiting = null;
      const taken = { message, reply: message.reply, until: this.#options.clock.now() + ACK_WAIT_MS };
      if (this.#unread === null) this.#inbox.push(taken);
      else this.#unread.push(taken);
      return;
    }
    if (message.subject === this.#waiting) this.#waiting = null;
    // 404: none is there. 408: none came in time. Anything else says that the consumer has gone, or refuses.
    if (status === 404 || status === 408 || status === 100) this.#inbox.push();
    else
      this.#inbox.fail(
        brokerError(this.#broker, new Error(`stream ${this.#options.trigger.stream}: ${status} ${message.headers?.description ?? ''}`)),
      );
  }

  #ask({ nats, inbox }: Connected, request: { batch: number; expires: number; no_wait?: boolean }): string {
    this.#requests += 1;
    const reply = `${inbox}.${this.#requests}`;
    nats.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.#options.trigger.stream}.${this.#durable}`, JSON.stringify(request), { reply });
    return reply;
  }

  async receive(max: number, waitMs: number, signal: AbortSignal): Promise<SourceMessage[]> {
    const { clock } = this.#options;
    const end = clock.now() + waitMs;
    const connected = await this.#connection.get();
    if (signal.aborted) return [];
    let came = this.#fresh(await this.#inbox.take(max, 0, signal, clock));
    if (came.length === 0 && this.#waiting === null) {
      // All that is there at once; then, where there is nothing, the next one that comes. So none lies about here unasked.
      this.#ask(connected, { batch: max, expires: nanos(AT_ONCE_MS), no_wait: true });
      came = this.#fresh(await this.#inbox.take(max, Math.min(waitMs, AT_ONCE_MS), signal, clock));
    }
    const left = end - clock.now();
    if (came.length === 0 && left > 0 && !signal.aborted) {
      this.#waiting ??= this.#ask(connected, { batch: 1, expires: nanos(Math.ceil(left)) });
      came = this.#fresh(await this.#inbox.take(max, left, signal, clock));
    }
    while (came.length > 0 && came.length < max) {
      const more = this.#fresh(await this.#inbox.take(max - came.length, SETTLE_MS, signal, clock));
      if (more.length === 0) break;
      came.push(...more);
    }
    return came.map((taken) => this.#toMessage(taken));
  }

  /** Those that have not waited here for so long that another has them meanwhile. */
  #fresh(taken: Taken[]): Taken[] {
    const now = this.#options.clock.now();
    return taken.filter(({ until }) => now < until);
  }

  #toMessage(taken: Taken): SourceMessage {
    const { message, reply } = taken;
    const { stream } = this.#options.trigger;
    const { sequence, deliveries, time } = readReply(reply);
    const made = toSourceMessage({
      id: `${stream}:${sequence}`,
      source: `${this.#broker}/${encodeURIComponent(stream)}`,
      type: 'fn.nats',
      subject: message.subject,
      time,
      ...readHeaders(message.headers),
      data: message.data,
      deliveries,
      orderKey: null,
    });
    this.#taken.set(made, taken);
    return made;
  }

  /** Where its acknowledgement goes; throws where it may be another's meanwhile. */
  #mine(message: SourceMessage): Taken {
    const taken = this.#taken.get(message);
    if (taken === undefined) throw new Error(`${this.#broker}: message ${message.id} is not taken`);
    if (this.#options.clock.now() >= taken.until) {
      this.#taken.delete(message);
      throw new Error(`${this.#broker}: message ${message.id} was held for ${ACK_WAIT_MS} ms untouched: it goes to another`);
    }
    return taken;
  }

  async ack(messages: readonly SourceMessage[]): Promise<void> {
    const { nats } = await this.#connection.get();
    const acknowledged = await Promise.allSettled(
      messages.map(async (message) => {
        const { reply } = this.#mine(message);
        // The answer says that the server has it.
        await nats.request(reply, '+ACK', { timeout: REQUEST_TIMEOUT_MS });
        this.#taken.delete(message);
      }),
    );
    const failed = acknowledged.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw brokerError(this.#broker, failed.reason);
  }

  async release(messages: readonly SourceMessage[]): Promise<void> {
    const { nats } = await this.#connection.get();
    for (const message of messages) {
      const taken = this.#taken.get(message);
      this.#taken.delete(message);
      if (taken !== undefined && this.#options.clock.now() < taken.until) nats.publish(taken.reply, '-NAK');
    }
    await nats.flush();
  }

  async touch(messages: readonly SourceMessage[]): Promise<void> {
    const { nats } = await this.#connection.get();
    const now = this.#options.clock.now();
    for (const message of messages) {
      const taken = this.#taken.get(message);
      if (taken === undefined || now >= taken.until) continue;
      nats.publish(taken.reply, '+WPI');
      taken.until = now + ACK_WAIT_MS;
    }
    await nats.flush();
  }

  async lag(): Promise<number | null> {
    const { manager } = await this.#connection.get();
    try {
      const { num_pending } = await manager.consumers.info(this.#options.trigger.stream, this.#durable);
      return num_pending + this.#inbox.size;
    } catch (error) {
      throw brokerError(this.#broker, error);
    }
  }

  async close(): Promise<void> {
    const connected = this.#connection.current;
    const unread = (this.#unread ??= []);
    unread.push(...this.#inbox.end());
    if (connected !== null) {
      // First, for the server would give what comes back to a request of ours that still waits, and it would be missing for
      // ACK_WAIT_MS. A server that is away redelivers by itself after that time.
      await connected.subscription.drain().catch(() => {});
      const ours = connected.nats.isClosed() ? [] : [...this.#taken.values(), ...unread];
      for (const { reply, until } of ours) if (this.#options.clock.now() < until) connected.nats.publish(reply, '-NAK');
      await connected.nats.flush().catch(() => {});
    }
    this.#taken.clear();
    await this.#connection.close();
  }
}

/** Never throws: what is wrong is told by `receive`. */
export const openSource: OpenSource<NatsTrigger> = (options) => Promise.resolve(new NatsSource(options));
