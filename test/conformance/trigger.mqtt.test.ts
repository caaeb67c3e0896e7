/** MQTT 5 as a source, against a real mosquitto. */
import { connectAsync } from 'mqtt';
import { afterAll, describe, expect, it } from 'vitest';
import { MqttTrigger, type TriggerOf } from '#contract/trigger.ts';
import { systemClock } from '#kit/clock.ts';
import { openPublisher } from '../../controller/triggers/mqtt/publisher.ts';
import { openSource } from '../../controller/triggers/mqtt/source.ts';
import type { Broker } from '../helpers/broker-process.ts';
import { startMosquitto } from '../helpers/mosquitto.ts';
import { describePublisher } from './publisher.suite.ts';
import { CANARY, type SourceKind, describeSource, direct, listeningLog, take, textOf } from './trigger.suite.ts';

const USER = { name: 'fn', password: 'mqtt-test-password' };
let server: Broker | null = null;
let topics = 0;
const mosquitto = (): Broker => {
  if (server === null) throw new Error('no mosquitto runs');
  return server;
};
const start = async () => {
  server ??= await startMosquitto({ user: USER });
};
const stop = async () => {
  await server?.stop();
  server = null;
};
afterAll(stop);

const urlWith = (password: string) => `mqtt://${USER.name}:${password}@127.0.0.1:${mosquitto().port}`;

/** By mqtt.js, which the source has nothing of but the codec. */
async function publish(topic: string, bodies: readonly (string | Uint8Array)[], qos: 1 | 2): Promise<void> {
  const client = await connectAsync(urlWith(USER.password), { protocolVersion: 5, reconnectPeriod: 0 });
  try {
    for (const body of bodies) await client.publishAsync(topic, Buffer.from(body as string), { qos });
  } finally {
    await client.endAsync();
  }
}

const kindOf = (qos: 1 | 2): SourceKind<TriggerOf<'mqtt'>> => ({
  name: `mqtt QoS ${qos}`,
  open: openSource,
  start,
  stop,
  async bench() {
    const topic = `topic/${++topics}`;
    const trigger = MqttTrigger.parse({ type: 'mqtt', name: 'in', url: 'mqtt://x', topic: `${topic}/+`, qos, clientId: `c${topics}` });
    return {
      trigger: { ...trigger, url: urlWith(USER.password) },
      send: (bodies) => publish(`${topic}/in`, bodies, qos),
      // A broker does not tell.
      unacknowledged: async () => null,
      remove: async () => {},
    };
  },
  async restart() {
    await mosquitto().kill();
    await mosquitto().restart();
  },
  refused: (trigger) => ({ ...trigger, url: urlWith(CANARY) }),
  fromBeginning: null,
  keepsEarlier: false,
  shared: false,
  counts: true,
});

describeSource(kindOf(1));
describeSource(kindOf(2));

describePublisher({
  ...kindOf(1),
  openSource,
  openPublisher,
  destinationOf: ({ url, topic }) => ({ type: 'mqtt', url, topic: topic.replace('+', 'in'), qos: 1 }),
  unreachable: (destination) => ({ ...destination, url: urlWith(CANARY) }),
  nowhere: null,
});

describe('mqtt', () => {
  it('acknowledges in the order of receipt, and what waits for a forerunner comes again', async () => {
    await start();
    const bench = await kindOf(1).bench();
    const common = { namespace: 'default', name: 'orders', installation: 'test', consumer: 'c', resolve: direct, clock: systemClock };
    const open = () => openSource({ ...common, trigger: bench.trigger, log: listeningLog() });
    const source = await open();
    await source.receive(1, 1, new AbortController().signal);
    await bench.send(['one', 'two', 'three']);
    const [one, two, three] = await take(source, 3);
    await source.ack([three!, two!]);
    await source.close();
    const next = await open();
    const again = await take(next, 3);
    expect(again.map(textOf)).toEqual(['one', 'two', 'three']);
    expect(again.map(({ id }) => id)).toEqual([one!.id, two!.id, three!.id]);
    await next.ack([again[2]!, again[0]!, again[1]!]);
    await next.close();
    const last = await open();
    expect(await last.receive(1, 300, new AbortController().signal)).toEqual([]);
    await last.close();
  });

  it('takes messages of QoS 0, which the broker keeps for nobody', async () => {
    await start();
    const bench = await kindOf(1).bench();
    const common = { namespace: 'default', name: 'orders', installation: 'test', consumer: 'c', resolve: direct, clock: systemClock };
    const source = await openSource({ ...common, trigger: { ...bench.trigger, qos: 0 }, log: listeningLog() });
    await source.receive(1, 1, new AbortController().signal);
    await bench.send(['same', 'same']);
    const messages = await take(source, 2);
    expect(new Set(messages.map(({ id }) => id)).size).toBe(2);
    await source.ack(messages);
    await source.close();
  });
});
