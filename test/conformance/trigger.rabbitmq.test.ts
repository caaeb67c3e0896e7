/** RabbitMQ as a source, against a real RabbitMQ. */
import { connect } from 'amqplib';
import { afterAll } from 'vitest';
import { RabbitmqTrigger, type TriggerOf } from '#contract/trigger.ts';
import { openSource } from '../../controller/triggers/rabbitmq/source.ts';
import type { Broker } from '../helpers/broker-process.ts';
import { startRabbit } from '../helpers/rabbitmq-server.ts';
import { CANARY, type SourceKind, describeSource } from './trigger.suite.ts';

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
