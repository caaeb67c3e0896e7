/** Events to a Redis stream: an entry each, attributes as fields `ce-…`, the data in `data`. */
import type { Destination } from '#contract/events.ts';
import { RedisConnection } from '../redis-connection.ts';
import type { OpenPublisher } from '../types.ts';
import { toFields } from './entry.ts';

export const openPublisher: OpenPublisher<Extract<Destination, { type: 'redis-stream' }>> = async ({ destination, resolve }) => {
  const { url, stream, maxLength } = destination;
  const connection = new RedisConnection({ url, resolve, clientName: 'fn-publisher' });
  const trim = maxLength === null ? [] : ['MAXLEN', '~', maxLength];
  return {
    async publish(event) {
      await connection.call('XADD', stream, ...trim, '*', ...toFields(event));
    },
    async close() {
      connection.close();
    },
  };
};
