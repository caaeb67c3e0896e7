/** Destinations on RabbitMQ: an exchange and a routing key; the default exchange has a route to every queue by its name. */
import type { ChannelModel, ConfirmChannel } from 'amqplib';
import { BrokerConnection, REQUEST_TIMEOUT_MS, brokerError } from '../broker-connection.ts';
import type { BrokerDestination, OpenPublisher, OutgoingEvent } from '../types.ts';
import { dialRabbit, rabbitName } from './dial.ts';
import { writeAttributes } from './properties.ts';

type RabbitDestination = Extract<BrokerDestination, { type: 'rabbitmq' }>;
interface Connected {
  model: ChannelModel;
  channel: ConfirmChannel;
  /** Those that wait to be confirmed, by their number; told when they come back or the channel ends. */
  pending: Map<number, (error: Error) => void>;
  published: number;
}

/** Tells which of ours a message is that comes back; taken by nobody else. */
const NUMBER_HEADER = 'x-fn-publish';

/** An event is sent once RabbitMQ has confirmed it, and at least one queue took it. Persistent. */
export const openPublisher: OpenPublisher<RabbitDestination> = async ({ destination, resolve, clock, log }) => {
  const broker = rabbitName(destination.url);
  const { exchange, routingKey } = destination;

  async function open(): Promise<Connected> {
    const model = await dialRabbit(destination.url, resolve, 'fn destination');
    // Told to those who wait, by 'close' below; without a listener it would end the process.
    let reason = new Error('the connection was lost');
    model.on('error', (error) => (reason = error));
    const channel = await model.createConfirmChannel();
    const connected: Connected = { model, channel, pending: new Map(), published: 0 };
    const ended = () => {
      connection.lost(connected);
      for (const fail of connected.pending.values()) fail(reason);
      connected.pending.clear();
      // A channel that was closed (no such exchange) leaves a connection behind.
      void model.close().catch(() => {});
    };
    channel.on('error', (error) => (reason = error));
    channel.on('close', ended);
    model.on('close', ended);
    channel.on('return', ({ fields, properties }) => {
      const text = 'replyText' in fields ? String(fields.replyText) : 'it came back';
      connected.pending.get(Number(properties.headers?.[NUMBER_HEADER]))?.(
        new Error(`no queue takes a message of exchange '${exchange}' with routing key '${routingKey}': ${text}`),
      );
    });
    return connected;
  }

  const connection = new BrokerConnection<Connected>({
    open,
    end: async ({ model }) => {
      // It may have ended by itself.
      await model.close().catch(() => {});
    },
    clock,
  });

  function publish(connected: Connected, { attributes, data }: OutgoingEvent): Promise<void> {
    const number = (connected.published += 1);
    return new Promise<void>((resolve, reject) => {
      const end = (error: Error | null) => {
        cancel();
        connected.pending.delete(number);
        if (error === null) resolve();
        else reject(brokerError(broker, error));
      };
      const cancel = clock.after(REQUEST_TIMEOUT_MS, () => end(new Error(`no confirmation within ${REQUEST_TIMEOUT_MS} ms`)));
      connected.pending.set(number, end);
      connected.channel.publish(
        exchange,
        routingKey,
        Buffer.from(data.buffer, data.byteOffset, data.byteLength),
        {
          mandatory: true,
          persistent: true,
          ...(attributes['id'] === undefined ? {} : { messageId: attributes['id'].slice(0, 255) }),
          ...(attributes['datacontenttype'] === undefined ? {} : { contentType: attributes['datacontenttype'] }),
          timestamp: Math.floor(clock.wall() / 1_000),
          headers: { ...writeAttributes(attributes), [NUMBER_HEADER]: number },
        },
        (error: Error | null) => {
          // One that came back is confirmed too, and has been told. That the channel was closed says 'close', with the reason.
          if (connected.pending.has(number) && (error === null || error.message.includes('nacked'))) end(error);
        },
      );
    });
  }

  return {
    async publish(event) {
      const connected = await connection.get();
      try {
        await publish(connected, event);
      } catch (error) {
        log.debug({ broker, error: String(error) }, 'a message was not confirmed');
        throw error;
      }
    },
    close: () => connection.close(),
  };
};
