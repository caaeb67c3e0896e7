/** Destinations on MQTT. */
import type { QoS } from 'mqtt-packet';
import { newEventId } from '#kit/ids.ts';
import { BrokerConnection, brokerError } from '../broker-connection.ts';
import { toStructured } from '../broker-message.ts';
import type { BrokerDestination, OpenPublisher } from '../types.ts';
import { writeAttributes } from './properties.ts';
import { type Session, mqttName, openSession } from './session.ts';

/**
 * An event is sent once the broker has confirmed it (PUBACK, PUBCOMP); with QoS 0, which has no confirmation, once it
 * is written. MQTT 5: binary mode; 3.1.1 has no properties: structured mode.
 */
export const openPublisher: OpenPublisher<Extract<BrokerDestination, { type: 'mqtt' }>> = async ({ destination, resolve, clock }) => {
  const broker = mqttName(destination.url);
  const clientId = `fn-${newEventId().slice(2)}`;
  const connection = new BrokerConnection<Session>({
    async open() {
      const session = await openSession({
        ...{ url: destination.url, resolve, clock, clientId, clean: true, sessionSeconds: 0, receiveMaximum: 1 },
        // It subscribes to nothing.
        onMessage: () => {},
      });
      void session.ended.then(() => connection.lost(session));
      return session;
    },
    end: (session) => session.close(),
    clock,
  });
  const qos = destination.qos as QoS;
  return {
    async publish(event) {
      const session = await connection.get();
      const { topic } = destination;
      try {
        if (session.version === 4) await session.publish({ topic, qos, payload: toStructured(event) });
        else {
          const payload = Buffer.from(event.data.buffer, event.data.byteOffset, event.data.byteLength);
          await session.publish({ topic, qos, payload, properties: writeAttributes(event.attributes) });
        }
      } catch (error) {
        throw brokerError(broker, error);
      }
    },
    close: () => connection.close(),
  };
};
