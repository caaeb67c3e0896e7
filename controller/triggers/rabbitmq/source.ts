/** Messages of a RabbitMQ queue (AMQP 0-9-1), each acknowledged by itself. */
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import type { TriggerOf } from '#contract/trigger.ts';
import { newEventId } from '#kit/ids.ts';
import { BrokerConnection, Inbox, REQUEST_TIMEOUT_MS, brokerError, within } from '../broker-connection.ts';
import { toSourceMessage } from '../broker-message.ts';
import type { OpenSource, Source, SourceMessage, SourceOptions } from '../types.ts';
import { dialRabbit, rabbitName } from './dial.ts';
import { readAttributes } from './properties.ts';

/** What the broker sends ahead of acknowledgements is at most so much; AMQP's own limit. */
const MAX_PREFETCH = 65_535;
/** Messages that were sent arrive one after the other: it is over when none has come for so long. */
const SETTLE_MS = 5;

type RabbitTrigger = TriggerOf<'rabbitmq'>;

interface Connected {
  model: ChannelModel;
  channel: Channel;
  /** For questions: one that is refused ends its channel. */
  questions: Channel;
  /** Why it ended. */
  reason: Error | null;
  consumerTag: string;
  prefetch: number;
}
interface Taken {
  delivery: ConsumeMessage;
  /** Its number means something on this one alone. */
  connected: Connected;
}

const textOf = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);

class RabbitSource implements Source {
  /** What is not acknowledged stays ours for as long as the connection lasts. */
  readonly touchEveryMs = null;
  readonly #options: SourceOptions<RabbitTrigger>;
  readonly #broker: string;
  readonly #connection: BrokerConnection<Connected>;
  readonly #inbox = new Inbox<Taken>();
  readonly #taken = new Map<SourceMessage, Taken>();
  /** Most that anybody has wanted at a time so far, those that he had not acknowledged included. */
  #wanted = 1;
  #settling: Promise<void> | null = null;

  constructor(options: SourceOptions<RabbitTrigger>) {
    this.#options = options;
    this.#broker = rabbitName(options.trigger.url);
    this.#connection = new BrokerConnection({
      open: () => this.#open(),
      // It may have ended by itself.
      end: ({ model }) => model.close().catch(() => {}),
      clock: options.clock,
    });
  }

  async #open(): Promise<Connected> {
    const { trigger, namespace, name, resolve } = this.#options;
    const model = await dialRabbit(trigger.url, resolve, `fn trigger ${namespace}/${name}/${trigger.name}`);
    // Why it ends is told by 'close' too, or by what fails; without a listener it would end the process.
    let reason: Error | null = null;
    const because = (error: Error) => (reason ??= error);
    model.on('error', because);
    try {
      await this.#findQueue(model);
      const [channel, questions] = [await model.createChannel(), await model.createChannel()];
      questions.on('error', because);
      const connected: Connected = { model, channel, questions, reason: null, consumerTag: '', prefetch: 0 };
      const ended = () => this.#ended(connected, reason ?? new Error('the connection was lost'));
      channel.on('error', because);
      channel.on('close', ended);
      questions.on('close', ended);
      model.on('close', ended);
      await this.#consume(connected);
      return connected;
    } catch (error) {
      await model.close().catch(() => {});
      throw brokerError(this.#broker, reason ?? error);
    }
  }

  /** Finds the queue; makes it where it is missing and that is wanted. What it is made like is left alone where it is there. */
  async #findQueue(model: ChannelModel): Promise<void> {
    const { queue, declare, bind } = this.#options.trigger;
    const asked = async <T>(ask: (channel: Channel) => Promise<T>): Promise<T> => {
      const channel = await model.createChannel();
      // What it says is thrown by the question.
      channel.on('error', () => {});
      const answer = await ask(channel);
      await channel.close();
      return answer;
    };
    try {
      await asked((channel) => channel.checkQueue(queue));
    } catch (error) {
      if (!String(error).includes('NOT_FOUND')) throw error;
      if (!declare) throw new Error(`there is no queue ${queue}: make it, or set declare: true`, { cause: error });
      await asked((channel) => channel.assertQueue(queue, { durable: true }));
    }
    if (bind !== null) await asked((channel) => channel.bindQueue(queue, bind.exchange, bind.routingKey));
  }

  /** Begins to consume, with as much ahead as is wanted; a consumer that had less is ended. What it was sent stays valid. */
  async #consume(connected: Connected): Promise<void> {
    const { channel } = connected;
    const before = connected.consumerTag;
    connected.prefetch = this.#wanted;
    if (before !== '') await channel.cancel(before);
    await channel.prefetch(this.#wanted);
    const { consumerTag } = await channel.consume(this.#options.trigger.queue, (delivery) => {
      if (delivery !== null) return this.#inbox.push({ delivery, connected });
      // The queue was deleted, or its node is gone.
      this.#ended(connected, new Error(`the broker ended the consumer: queue ${this.#options.trigger.queue} was deleted or moved`));
    });
    connected.consumerTag = consumerTag;
  }

  #ended(connected: Connected, reason: Error): void {
    if (connected.reason !== null) return;
    connected.reason = brokerError(this.#broker, reason);
    this.#connection.lost(connected);
    // They go to whoever consumes next; their numbers mean nothing any more.
    this.#inbox.drop((taken) => taken.connected === connected);
    this.#inbox.fail(connected.reason);
    // A channel that was closed leaves a connection behind.
    void connected.model.close().catch(() => {});
  }

  async receive(max: number, waitMs: number, signal: AbortSignal): Promise<SourceMessage[]> {
    const { clock } = this.#options;
    const connected = await this.#connection.get();
    if (signal.aborted) return [];
    const wanted = Math.min(MAX_PREFETCH, this.#taken.size + max);
    if (wanted > connected.prefetch) {
      // To the next power of two, so that it happens seldom.
      this.#wanted = Math.min(MAX_PREFETCH, 2 ** Math.ceil(Math.log2(wanted)));
      try {
        await within(this.#consume(connected), REQUEST_TIMEOUT_MS, clock, 'RabbitMQ');
      } catch (error) {
        throw connected.reason ?? brokerError(this.#broker, error);
      }
    }
    const came = await this.#inbox.take(max, waitMs, signal, clock);
    while (came.length > 0 && came.length < max) {
      const more = await this.#inbox.take(max - came.length, SETTLE_MS, signal, clock);
      if (more.length === 0) break;
      came.push(...more);
    }
    return came.map((taken) => this.#toMessage(taken));
  }

  #toMessage(taken: Taken): SourceMessage {
    const { queue } = this.#options.trigger;
    const { fields, properties, content } = taken.delivery;
    const before = Number(properties.headers?.['x-delivery-count']);
    const made = toSourceMessage({
      // AMQP has no id. One of chance: that of two equal messages would be the same if it were made of what they say.
      id: textOf(properties.messageId) ?? newEventId(),
      source: `${this.#broker}/${encodeURIComponent(queue)}`,
      type: textOf(properties.type) ?? 'fn.rabbitmq',
      subject: fields.routingKey === '' ? null : fields.routingKey,
      time: typeof properties.timestamp === 'number' ? properties.timestamp * 1_000 : null,
      contentType: textOf(properties.contentType),
      data: content,
      // Quorum queues count; others tell only that it is not the first.
      deliveries: Number.isInteger(before) ? before + 1 : fields.redelivered ? 2 : 1,
      orderKey: null,
      attributes: readAttributes(properties.headers),
    });
    this.#taken.set(made, taken);
    return made;
  }

  /** Does it with each; those of a connection that has ended are told of, after the others. */
  async #settle(messages: readonly SourceMessage[], how: (taken: Taken) => void): Promise<void> {
    let lost: Error | null = null;
    const on = new Set<Connected>();
    for (const message of messages) {
      const taken = this.#taken.get(message);
      this.#taken.delete(message);
      if (taken === undefined || taken.connected.reason !== null) {
        lost = taken?.connected.reason ?? new Error(`${this.#broker}: message ${message.id} is not taken`);
        continue;
      }
      how(taken);
      on.add(taken.connected);
    }
    for (const connected of on) await this.#reached(connected);
    if (lost !== null) throw new Error(`${lost.message}; what was taken before comes again`);
  }

  /**
   * AMQP answers no acknowledgement; but a channel's frames are worked on in their order, so the answer to a question
   * behind them says that they have arrived. Those who ask at the same time share one.
   */
  async #reached(connected: Connected): Promise<void> {
    await this.#settling;
    this.#settling ??= this.#ask(connected.channel)
      .then(() => {})
      .finally(() => (this.#settling = null));
    try {
      await this.#settling;
    } catch (error) {
      throw connected.reason ?? brokerError(this.#broker, error);
    }
  }

  #ask(channel: Channel) {
    return within(channel.checkQueue(this.#options.trigger.queue), REQUEST_TIMEOUT_MS, this.#options.clock, 'RabbitMQ');
  }

  ack(messages: readonly SourceMessage[]): Promise<void> {
    return this.#settle(messages, ({ delivery, connected }) => connected.channel.ack(delivery));
  }

  release(messages: readonly SourceMessage[]): Promise<void> {
    return this.#settle(messages, ({ delivery, connected }) => connected.channel.nack(delivery, false, true));
  }

  async touch(): Promise<void> {}

  async lag(): Promise<number | null> {
    const connected = await this.#connection.get();
    try {
      const { messageCount } = await this.#ask(connected.questions);
      return messageCount + this.#inbox.size;
    } catch (error) {
      throw connected.reason ?? brokerError(this.#broker, error);
    }
  }

  async close(): Promise<void> {
    // With the connection all goes back that is not acknowledged.
    this.#taken.clear();
    this.#inbox.end();
    await this.#connection.close();
  }
}

/** Never throws: what is wrong is told by `receive`. */
export const openSource: OpenSource<RabbitTrigger> = (options) => Promise.resolve(new RabbitSource(options));
