/** A RabbitMQ of its own: node name, ports, data, cookie and port mapper; no plugins. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Broker, listens, startBroker } from './broker-process.ts';
import { freePort } from './platform.ts';

/** The user `guest` with the password `guest` is there, as RabbitMQ makes it. */
export async function startRabbit(): Promise<Broker> {
  const [port, distPort, epmdPort] = [await freePort(), await freePort(), await freePort()];
  return startBroker({
    name: 'rabbitmq-server',
    port,
    url: `amqp://127.0.0.1:${port}`,
    command: (folder) => {
      for (const name of ['data', 'log', 'home']) mkdirSync(join(folder, name), { recursive: true });
      const plugins = join(folder, 'plugins');
      writeFileSync(plugins, '[].\n');
      const config = join(folder, 'rabbitmq.conf');
      // A second is enough to look at what is on the machine; memory of the tests' machine is not its own.
      writeFileSync(
        config,
        `listeners.tcp.1 = 127.0.0.1:${port}\nvm_memory_high_watermark.absolute = 512MiB\ndisk_free_limit.absolute = 1MB\nlog.file.level = warning\n`,
      );
      return {
        // The one of /usr/sbin would become the user rabbitmq, and read /etc/rabbitmq.
        // epmd, the mapper of names to ports, would leave the group if RabbitMQ started it, and stay.
        file: 'sh',
        args: ['-c', `epmd -port ${epmdPort} & exec /usr/lib/rabbitmq/bin/rabbitmq-server`],
        env: {
          HOME: join(folder, 'home'),
          RABBITMQ_NODENAME: `fn${port}@localhost`,
          RABBITMQ_MNESIA_BASE: join(folder, 'data'),
          RABBITMQ_LOG_BASE: join(folder, 'log'),
          RABBITMQ_ENABLED_PLUGINS_FILE: plugins,
          RABBITMQ_CONFIG_FILE: config,
          RABBITMQ_CONF_ENV_FILE: join(folder, 'none'),
          RABBITMQ_DIST_PORT: String(distPort),
          RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}',
          ERL_EPMD_PORT: String(epmdPort),
          ERL_EPMD_ADDRESS: '127.0.0.1',
        },
      };
    },
    ready: () => listens(port),
  });
}
