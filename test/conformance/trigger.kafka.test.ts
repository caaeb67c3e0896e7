/** Kafka as a source, against librdkafka's mock cluster: see kafka-mock.ts for what that is and is not. */
import { Producer } from '@platformatic/kafka';
import { afterAll } from 'vitest';
import { KafkaTrigger, type TriggerOf } from '#contract/trigger.ts';
import { openPublisher } from '../../controller/triggers/kafka/publisher.ts';
import { openSource } from '../../controller/triggers/kafka/source.ts';
import { type KafkaMock, startKafkaMock } from '../helpers/kafka-mock.ts';
import { freePort } from '../helpers/platform.ts';
import { describePublisher } from './publisher.suite.ts';
import { CANARY, type SourceKind, describeSource } from './trigger.suite.ts';

let server: KafkaMock | null = null;
let refusing = 0;
let topics = 0;
const cluster = (): KafkaMock => {
  if (server === null) throw new Error('no mock cluster runs');
  return server;
};
const start = async () => {
  server ??= await startKafkaMock();
  refusing = await freePort();
};
const stop = async () => {
  await server?.stop();
  server = null;
};
afterAll(stop);

const kind: SourceKind<TriggerOf<'kafka'>> = {
  name: 'kafka',
  open: openSource,
  start,
  stop,
  async bench() {
    const topic = `topic-${++topics}`;
    await cluster().createTopic(topic, 1);
    const producer = new Producer({ clientId: 'test', bootstrapBrokers: [cluster().bootstrap], retries: 0 });
    const trigger = KafkaTrigger.parse({ type: 'kafka', name: 'in', brokers: [cluster().bootstrap], topic, group: `group-${topics}` });
    return {
      trigger,
      async send(bodies) {
        for (const body of bodies) await producer.send({ acks: -1, messages: [{ topic, value: Buffer.from(body as string) }] });
      },
      // The mock has no API for what a group has in work.
      unacknowledged: async () => null,
      remove: () => producer.close(),
    };
  },
  async restart() {
    await cluster().down();
    await cluster().up();
  },
  refused: (trigger) => ({
    ...trigger,
    brokers: [`127.0.0.1:${refusing}`],
    sasl: { mechanism: 'plain', username: 'fn', password: CANARY },
  }),
  fromBeginning: (trigger) => ({ ...trigger, startFrom: 'beginning' }),
  keepsEarlier: false,
  shared: false,
  counts: false,
  againWithinMs: 30_000,
};

describeSource(kind);

describePublisher({
  ...kind,
  openSource,
  openPublisher,
  destinationOf: ({ brokers, tls, sasl, topic }) => ({ type: 'kafka', brokers, tls, sasl, topic }),
  unreachable: (destination) => ({
    ...destination,
    brokers: [`127.0.0.1:${refusing}`],
    sasl: { mechanism: 'plain', username: 'fn', password: CANARY },
  }),
  nowhere: null,
});
