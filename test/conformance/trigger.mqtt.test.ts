/** MQTT 5 as a source, against a real mosquitto. */
import { connectAsync } from 'mqtt';
import { afterAll } from 'vitest';
import { MqttTrigger, type TriggerOf } from '#contract/trigger.ts';
import { openSource } from '../../controller/triggers/mqtt/source.ts';
import type { Broker } from '../helpers/broker-process.ts';
import { startMosquitto } from '../helpers/mosquitto.ts';
import { CANARY, type SourceKind, describeSource } from './trigger.suite.ts';

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
