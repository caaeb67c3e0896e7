/** A connection to a NATS server, by one that its trigger or destination may dial. */
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { CONNECT_TIMEOUT_MS, brokerError, hostPort, readUrl } from '../broker-connection.ts';
import type { ResolveHost } from '../types.ts';

const DEFAULT_PORT = 4222;
/** A server that does not answer two pings is gone. */
const PING_INTERVAL_MS = 10_000;

export const natsName = (url: string): string => {
  const { host, port } = readUrl(url, DEFAULT_PORT);
  return `nats://${hostPort(host, port)}`;
};

/**
 * Dials once. `tls:` demands TLS, with the certificate of the URL's host. A user without a password is a token,
 * as in NATS' own URLs. Servers of the cluster that the server tells of are not dialled.
 */
export async function dialNats(url: string, resolve: ResolveHost): Promise<NatsConnection> {
  const { host, port, username, password } = readUrl(url, DEFAULT_PORT);
  try {
    const address = await resolve(host, port);
    const tls = { handshakeFirst: false, servername: address.servername };
    return await connect({
      servers: [hostPort(address.host, port)],
      name: 'fn',
      reconnect: false,
      resolve: false,
      ignoreClusterUpdates: true,
      timeout: CONNECT_TIMEOUT_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: 2,
      ...(url.startsWith('tls:') ? { tls } : {}),
      ...(username === null ? {} : password === null ? { token: username } : { user: username, pass: password }),
    });
  } catch (error) {
    // A user without a password is a token: a secret too.
    throw brokerError(natsName(url), error, [password, password === null ? username : null]);
  }
}
