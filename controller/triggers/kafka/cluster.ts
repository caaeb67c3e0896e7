/** How a Kafka cluster is reached, by brokers that its trigger or destination may dial. */
import { isIP, type LookupFunction } from 'node:net';
import { callbackify } from 'node:util';
import type { BaseOptions, Broker, CallbackWithPromise, Connection, ConnectionPool } from '@platformatic/kafka';
import type { KafkaCluster } from '#contract/events.ts';
import type { z } from 'zod';
import { CONNECT_TIMEOUT_MS, brokerError } from '../broker-connection.ts';
import type { ResolveHost } from '../types.ts';

export type Cluster = z.infer<z.ZodObject<typeof KafkaCluster>>;

/** The answer to a request that waits for others (to join a group) comes within this. */
const REQUEST_TIMEOUT_MS = 30_000;
/** A question that fails for a reason that passes is asked again so often, after so long. */
const RETRIES = 2;
const RETRY_DELAY_MS = 250;
const MECHANISMS = { plain: 'PLAIN', 'scram-sha-256': 'SCRAM-SHA-256', 'scram-sha-512': 'SCRAM-SHA-512' } as const;

export const clusterName = ({ brokers }: Cluster): string => `kafka://${brokers[0]}`;

export const clusterError = (cluster: Cluster, error: unknown): Error =>
  brokerError(clusterName(cluster), error, [cluster.sasl?.password ?? null]);

function readBroker(text: string): Broker {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
}

/** What consumers and producers have in common. `dial` is for the client that is made of it. */
export function reaching(cluster: Cluster, resolve: ResolveHost): { options: BaseOptions; dial: (pool: ConnectionPool) => void } {
  const brokers = cluster.brokers.map(readBroker);
  /** Addresses that names were resolved to, when they were dialled last. */
  const addresses = new Map<string, string>();
  // TLS is dialled by name, for the name that the certificate must have; the address is the one that was allowed.
  const lookup: LookupFunction = (host, { all }, callback) => {
    const address = addresses.get(host);
    if (address === undefined) return callback(new Error(`${host} was not resolved`), '', 0);
    if (all === true) callback(null, [{ address, family: isIP(address) }]);
    else callback(null, address, isIP(address));
  };
  const options: BaseOptions = {
    clientId: 'fn',
    bootstrapBrokers: brokers,
    connectTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retries: RETRIES,
    retryDelay: RETRY_DELAY_MS,
    autocreateTopics: false,
    ...(cluster.tls ? { tls: { lookup }, tlsServerName: brokers.every(({ host }) => isIP(host) === 0) } : {}),
    ...(cluster.sasl === null
      ? {}
      : { sasl: { mechanism: MECHANISMS[cluster.sasl.mechanism], username: cluster.sasl.username, password: cluster.sasl.password } }),
  };
  /**
   * A cluster names the brokers that its clients are to dial: any address at all. All of the client's dials go through
   * its pool; there each is checked, and goes to the address that was allowed.
   */
  const dial = (pool: ConnectionPool) => {
    const get = pool.get.bind(pool);
    async function allowed({ host, port }: Broker): Promise<Broker> {
      const address = await resolve(host, port);
      addresses.set(host, address.host);
      return { host: cluster.tls ? host : address.host, port };
    }
    function checked(broker: Broker): Promise<Connection>;
    function checked(broker: Broker, callback: CallbackWithPromise<Connection>): void;
    function checked(broker: Broker, callback?: CallbackWithPromise<Connection>): Promise<Connection> | void {
      const connect = async (): Promise<Connection> => await get(await allowed(broker));
      if (callback === undefined) return connect();
      callbackify(connect)(callback);
    }
    pool.get = checked;
  };
  return { options, dial };
}
