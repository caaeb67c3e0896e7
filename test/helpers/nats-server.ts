/** A nats-server with JetStream. */
import { join } from 'node:path';
import { type Broker, listens, startBroker } from './broker-process.ts';
import { freePort } from './platform.ts';

export async function startNats({ user = null as { name: string; password: string } | null } = {}): Promise<Broker> {
  const port = await freePort();
  const credentials = user === null ? [] : ['--user', user.name, '--pass', user.password];
  return startBroker({
    name: 'nats-server',
    port,
    url: `nats://127.0.0.1:${port}`,
    command: (folder) => ({
      file: 'nats-server',
      args: ['--addr', '127.0.0.1', '--port', String(port), '--jetstream', '--store_dir', join(folder, 'data'), ...credentials],
    }),
    ready: () => listens(port),
  });
}
