/** Events to a Redis list: a structured CloudEvent each, pushed on the left, as consumers that pop on the right expect it. */
import type { Destination } from '#contract/events.ts';
import { toStructured } from '../broker-message.ts';
import { RedisConnection } from '../redis-connection.ts';
import type { OpenPublisher } from '../types.ts';

export const openPublisher: OpenPublisher<Extract<Destination, { type: 'redis-list' }>> = async ({ destination, resolve }) => {
  const connection = new RedisConnection({ url: destination.url, resolve, clientName: 'fn-publisher' });
  return {
    async publish(event) {
      await connection.call('LPUSH', destination.list, toStructured(event));
    },
    async close() {
      connection.close();
    },
  };
};
