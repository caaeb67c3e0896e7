/** A name server of the test's own: IPv4 addresses by name, changed while it runs (RFC 1035, section 4.1). */
import { createSocket } from 'node:dgram';

const OK = 0;
const SERVER_FAILURE = 2;
const NO_SUCH_NAME = 3;
const TYPE_A = 1;

export interface DnsServer {
  /** For setServers(): `127.0.0.1:PORT`. */
  address: string;
  /** What it knows; a name that is missing does not exist; null: the server cannot say. */
  hosts: Map<string, { addresses: string[]; ttl: number } | null>;
  close(): void;
}

export async function dnsServer(): Promise<DnsServer> {
  const hosts: DnsServer['hosts'] = new Map();
  const socket = createSocket('udp4', (query, from) => socket.send(reply(query, hosts), from.port, from.address));
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return { address: `127.0.0.1:${socket.address().port}`, hosts, close: () => socket.close() };
}

function reply(query: Buffer, hosts: DnsServer['hosts']): Buffer {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const host = hosts.get(labels.join('.').toLowerCase());
  const found = host && query.readUInt16BE(at + 1) === TYPE_A ? host : { addresses: [], ttl: 0 };
  const head = Buffer.from(query.subarray(0, at + 5));
  head.writeUInt16BE(0x81_80 | (host === undefined ? NO_SUCH_NAME : host === null ? SERVER_FAILURE : OK), 2);
  head.writeUInt16BE(found.addresses.length, 6);
  head.writeUInt32BE(0, 8);
  const records = found.addresses.map((address) => {
    const record = Buffer.from([0xc0, 12, 0, TYPE_A, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)]);
    record.writeUInt32BE(found.ttl, 6);
    return record;
  });
  return Buffer.concat([head, ...records]);
}
