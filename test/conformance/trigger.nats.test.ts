/** NATS JetStream as a source, against a real nats-server. */
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { afterAll, expect, it, onTestFinished } from 'vitest';
import { NatsTrigger, type TriggerOf } from '#contract/trigger.ts';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { openPublisher } from '../../controller/triggers/nats/publisher.ts';
import { openSource } from '../../controller/triggers/nats/source.ts';
import type { Broker } from '../helpers/broker-process.ts';
import { startNats } from '../helpers/nats-server.ts';
import { waitFor } from '../helpers/wait.ts';
import { describePublisher } from './publisher.suite.ts';
import { CANARY, type SourceKind, describeSource, direct, take, textOf } from './trigger.suite.ts';

const USER = { name: 'fn', password: 'nats-test-password' };
let server: Broker | null = null;
let streams = 0;
const nats = (): Broker => {
  if (server === null) throw new Error('no nats-server runs');
  return server;
};
const start = async () => {
  server ??= await startNats({ user: USER });
};
const stop = async () => {
  await server?.stop();
  server = null;
};
afterAll(stop);

const urlWith = (password: string) => `nats://${USER.name}:${password}@127.0.0.1:${nats().port}`;

const kind = {
  name: 'nats',
  open: openSource,
  start,
  stop,
  async bench() {
    const stream = `S${++streams}`;
    const client = await connect({
      servers: nats().url,
      user: USER.name,
      pass: USER.password,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
    });
    const manager = await jetstreamManager(client);
    await manager.streams.add({ name: stream, subjects: [`${stream}.*`] });
    const trigger = NatsTrigger.parse({ type: 'nats', name: 'in', url: 'nats://x', stream, startFrom: 'new' });
    return {
      trigger: { ...trigger, url: urlWith(USER.password) },
      async send(bodies) {
        for (const body of bodies) await jetstream(client).publish(`${stream}.in`, body);
      },
      async unacknowledged() {
        const consumer = await manager.consumers.info(stream, 'fn-default-orders-in');
        return consumer.num_pending + consumer.num_ack_pending;
      },
      /** Of those who take from it, and wait for a message. */
      requests: async () => (await manager.consumers.info(stream, 'fn-default-orders-in')).num_waiting,
      remove: () => client.close(),
    };
  },
  async restart() {
    await nats().kill();
    await nats().restart();
  },
  refused: (trigger) => ({ ...trigger, url: urlWith(CANARY) }),
  fromBeginning: (trigger) => ({ ...trigger, startFrom: 'beginning' }),
  keepsEarlier: false,
  shared: true,
  counts: true,
} satisfies SourceKind<TriggerOf<'nats'>>;

describeSource(kind);

it('NATS gives what a source had to another at once, though the source still waited for more when it was closed', async () => {
  await start();
  const bench = await kind.bench();
  onTestFinished(() => bench.remove());
  const common = { namespace: 'default', name: 'orders', installation: 'test', resolve: direct, clock: systemClock, log: silentLog };
  const source = await kind.open({ ...common, trigger: bench.trigger, consumer: 'one' });
  await source.receive(1, 1, new AbortController().signal);
  await bench.send(['held']);
  expect((await take(source, 1)).map(textOf)).toEqual(['held']);
  const abort = new AbortController();
  const waiting = source.receive(1, 60_000, abort.signal);
  await waitFor('the server to know that it waits', async () => (await bench.requests()) > 0);
  abort.abort();
  await waiting;
  await source.close();
  const next = await kind.open({ ...common, trigger: bench.trigger, consumer: 'two' });
  onTestFinished(() => next.close());
  // Less than the time after which the server gives it to another by itself.
  expect((await take(next, 1)).map(textOf)).toEqual(['held']);
});

describePublisher({
  ...kind,
  openSource,
  openPublisher,
  destinationOf: ({ url, stream }) => ({ type: 'nats', url, subject: `${stream}.in` }),
  unreachable: (destination) => ({ ...destination, url: urlWith(CANARY) }),
  nowhere: (destination) => ({ ...destination, subject: 'of.no.stream' }),
});
