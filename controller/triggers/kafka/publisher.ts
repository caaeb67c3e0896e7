/** Destinations on Kafka. */
import { Producer } from '@platformatic/kafka';
import { BrokerConnection } from '../broker-connection.ts';
import type { BrokerDestination, OpenPublisher } from '../types.ts';
import { clusterError, reaching } from './cluster.ts';
import { writeHeaders } from './headers.ts';

/** All replicas that are in step have it (acks=all). */
const ALL_REPLICAS = -1;

/** An event is sent once all replicas in step have it. Its key is the event's `partitionkey`, where it has one. */
export const openPublisher: OpenPublisher<Extract<BrokerDestination, { type: 'kafka' }>> = async ({ destination, resolve, clock }) => {
  const connection = new BrokerConnection<Producer>({
    async open() {
      const { options, dial } = reaching(destination, resolve);
      const producer = new Producer(options);
      dial(producer.connections);
      return producer;
    },
    // Who closes it does not care how it went before.
    end: (producer) => producer.close().catch(() => {}),
    clock,
  });
  return {
    async publish({ attributes, data }) {
      const producer = await connection.get();
      const key = attributes['partitionkey'];
      try {
        await producer.send({
          acks: ALL_REPLICAS,
          messages: [
            {
              topic: destination.topic,
              value: Buffer.from(data.buffer, data.byteOffset, data.byteLength),
              headers: writeHeaders(attributes),
              ...(key === undefined ? {} : { key: Buffer.from(key) }),
            },
          ],
        });
      } catch (error) {
        throw clusterError(destination, error);
      }
    },
    close: () => connection.close(),
  };
};
