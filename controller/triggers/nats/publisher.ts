/** Destinations on NATS JetStream. */
import { jetstream } from '@nats-io/jetstream';
import { BrokerConnection, REQUEST_TIMEOUT_MS, brokerError } from '../broker-connection.ts';
import type { BrokerDestination, OpenPublisher } from '../types.ts';
import { dialNats, natsName } from './dial.ts';
import { writeHeaders } from './headers.ts';

/**
 * An event is sent once a stream has stored it: a subject that no stream has is an error. No `Nats-Msg-Id` goes with
 * it: the same event may be sent on behalf of two functions, and the stream would drop the second.
 */
export const openPublisher: OpenPublisher<Extract<BrokerDestination, { type: 'nats' }>> = async ({ destination, resolve, clock }) => {
  const broker = natsName(destination.url);
  const connection = new BrokerConnection({
    open: async () => {
      const nats = await dialNats(destination.url, resolve);
      void nats.closed().then(() => connection.lost(nats));
      return nats;
    },
    // Who closes it does not care how it went before.
    end: (nats) => nats.close().catch(() => {}),
    clock,
  });
  return {
    async publish({ attributes, data }) {
      const nats = await connection.get();
      try {
        await jetstream(nats, { timeout: REQUEST_TIMEOUT_MS }).publish(destination.subject, data, {
          headers: writeHeaders(attributes),
          timeout: REQUEST_TIMEOUT_MS,
        });
      } catch (error) {
        throw brokerError(broker, new Error(`no stream has confirmed a message of subject ${destination.subject}`, { cause: error }));
      }
    },
    close: () => connection.close(),
  };
};
