/** RabbitMQ as a source, against a real RabbitMQ. */
import { connect } from 'amqplib';
import { afterAll, describe, expect, it } from 'vitest';
import { RabbitmqTrigger, type TriggerOf } from '#contract/trigger.ts';
import { systemClock } from '#kit/clock.ts';
import { openPublisher } from '../../controller/triggers/rabbitmq/publisher.ts';
import { openSource } from '../../controller/triggers/rabbitmq/source.ts';
import type { Broker } from '../helpers/broker-process.ts';
import { startRabbit } from '../helpers/rabbitmq-server.ts';
import { describePublisher, event } from './publisher.suite.ts';
import { CANARY, type SourceKind, describeSource, direct, listeningLog, take } from './trigger.suite.ts';

let server: Broker | null = null;
let queues = 0;
const rabbit = (): Broker => {
  if (server === null) throw new Error('no RabbitMQ runs');
  return server;
};
const start = async () => {
  server ??= await startRabbit();
};
const stop = async () => {
  await server?.stop();
  server = null;
};
afterAll(stop);

/** For one piece of work, since the broker is killed meanwhile. */
async function asking<T>(work: (connection: Awaited<ReturnType<typeof connect>>) => Promise<T>): Promise<T> {
  const connection = await connect(rabbit().url);
  connection.on('error', () => {});
  try {
    return await work(connection);
  } finally {
    await connection.close().catch(() => {});
  }
}

const kind: SourceKind<TriggerOf<'rabbitmq'>> = {
  name: 'rabbitmq',
  open: openSource,
  start,
  stop,
  async bench() {
    const queue = `queue ${++queues}`;
    let ids = 0;
    await asking(async (connection) => {
      const channel = await connection.createChannel();
      await channel.assertQueue(queue, { durable: true });
    });
    const trigger = RabbitmqTrigger.parse({ type: 'rabbitmq', name: 'in', url: 'amqp://x', queue });
    return {
      trigger: { ...trigger, url: rabbit().url },
      send: (bodies) =>
        asking(async (connection) => {
          const channel = await connection.createConfirmChannel();
          for (const body of bodies) channel.sendToQueue(queue, Buffer.from(body as string), { persistent: true, messageId: `m${++ids}` });
          await channel.waitForConfirms();
        }),
      // Those that are taken are told by management only, which is a plugin.
      unacknowledged: async () => null,
      remove: () =>
        asking(async (connection) => {
          await (await connection.createChannel()).deleteQueue(queue);
        }),
    };
  },
  async restart() {
    await rabbit().kill();
    await rabbit().restart();
  },
  refused: (trigger) => ({ ...trigger, url: `amqp://guest:${CANARY}@127.0.0.1:${rabbit().port}` }),
  fromBeginning: null,
  keepsEarlier: true,
  // Who released it is a consumer as well, and may get it.
  shared: false,
  counts: true,
};

describeSource(kind);

describePublisher({
  ...kind,
  openSource,
  openPublisher,
  destinationOf: ({ url, queue }) => ({ type: 'rabbitmq', url, exchange: '', routingKey: queue }),
  unreachable: (destination) => ({ ...destination, url: `amqp://guest:${CANARY}@127.0.0.1:${rabbit().port}` }),
  nowhere: (destination) => ({ ...destination, routingKey: 'no queue' }),
});

describe('rabbitmq', () => {
  const common = () => ({
    ...{ namespace: 'default', name: 'orders', installation: 'test', consumer: 'c' },
    ...{ resolve: direct, clock: systemClock, log: listeningLog() },
  });
  const never = new AbortController().signal;

  it('says that the exchange of a destination is not there', async () => {
    await start();
    const destination = { type: 'rabbitmq', url: rabbit().url, exchange: 'missing', routingKey: 'x' } as const;
    const publisher = await openPublisher({ destination, resolve: direct, clock: systemClock, log: listeningLog() });
    await expect(publisher.publish(event('e'))).rejects.toThrow(/missing|NOT_FOUND/);
    await publisher.close();
  });

  it('makes the queue and binds it, and tells what is missing', async () => {
    await start();
    await asking(async (connection) => (await connection.createChannel()).assertExchange('orders', 'topic', { durable: true }));
    const trigger = RabbitmqTrigger.parse({
      ...{ type: 'rabbitmq', name: 'in', url: 'amqp://x', queue: 'bound', bind: { exchange: 'orders', routingKey: 'eu.#' } },
    });
    const source = await openSource({ ...common(), trigger: { ...trigger, url: rabbit().url } });
    expect(await source.receive(1, 1, never)).toEqual([]);
    await asking(async (connection) => {
      const channel = await connection.createConfirmChannel();
      channel.publish('orders', 'us.ny', Buffer.from('no'));
      channel.publish('orders', 'eu.de', Buffer.from('yes'));
      await channel.waitForConfirms();
    });
    const [message] = await take(source, 1);
    expect(message).toMatchObject({ subject: 'eu.de', type: 'fn.rabbitmq', deliveries: 1 });
    await source.close();

    const missing = await openSource({
      ...common(),
      trigger: { ...trigger, url: rabbit().url, queue: 'nowhere', declare: false, bind: null },
    });
    await expect(missing.receive(1, 1, never)).rejects.toThrow(/there is no queue nowhere.*declare: true/);
    await missing.close();
  });

  it('has the deliveries of a quorum queue, and goes on when its queue was deleted', async () => {
    await start();
    const declare = () =>
      asking(async (connection) => {
        const channel = await connection.createConfirmChannel();
        await channel.assertQueue('counted', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
        channel.sendToQueue('counted', Buffer.from('x'), { messageId: 'm' });
        await channel.waitForConfirms();
      });
    await declare();
    const trigger = RabbitmqTrigger.parse({ type: 'rabbitmq', name: 'in', url: 'amqp://x', queue: 'counted' });
    const source = await openSource({ ...common(), trigger: { ...trigger, url: rabbit().url } });
    for (const deliveries of [1, 2, 3]) {
      const [message] = await take(source, 1);
      expect(message).toMatchObject({ id: 'm', deliveries });
      await source.release([message!]);
    }
    const [last] = await take(source, 1);
    await asking(async (connection) => (await connection.createChannel()).deleteQueue('counted'));
    await expect(source.ack([last!])).rejects.toThrow(/comes again|was deleted/);
    await declare();
    expect(await take(source, 1)).toHaveLength(1);
    await source.close();
  });
});
