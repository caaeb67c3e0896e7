/** A connection to RabbitMQ (AMQP 0-9-1). */
import { type ChannelModel, connect } from 'amqplib';
import { CONNECT_TIMEOUT_MS, brokerError, hostPort, readUrl } from '../broker-connection.ts';
import type { ResolveHost } from '../types.ts';

/** Who is silent for two of these is gone, for either side. */
const HEARTBEAT_SECONDS = 10;

const portOf = (url: string): number => (url.startsWith('amqps:') ? 5671 : 5672);
export const rabbitName = (url: string): string => {
  const { host, port } = readUrl(url, portOf(url));
  return `amqp://${hostPort(host, port)}`;
};

/** Dials once; the path of the URL is the virtual host. `label` is what RabbitMQ shows of the connection. */
export async function dialRabbit(url: string, resolve: ResolveHost, label: string): Promise<ChannelModel> {
  const { host, port, username, password } = readUrl(url, portOf(url));
  try {
    const address = await resolve(host, port);
    const model = await connect(
      {
        protocol: url.startsWith('amqps:') ? 'amqps' : 'amqp',
        hostname: address.host,
        port,
        ...(username === null ? {} : { username, password: password ?? '' }),
        vhost: new URL(url).pathname.slice(1),
        heartbeat: HEARTBEAT_SECONDS,
      },
      {
        timeout: CONNECT_TIMEOUT_MS,
        noDelay: true,
        clientProperties: { connection_name: label },
        ...(address.servername === undefined ? {} : { servername: address.servername }),
      },
    );
    return model;
  } catch (error) {
    throw brokerError(rabbitName(url), error, [password]);
  }
}
