/** Which addresses may be dialled where a user of the platform chose the URL: public ones, and what the operator lists. */
import { BlockList, isIP } from 'node:net';

/** Not on the public internet (IANA's special-purpose registries): private, loopback, link-local, shared, multicast, documentation, reserved. */
const SPECIAL_IPV4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
];
/** Within the global unicast range: protocol assignments with Teredo, documentation, and 6to4, which leads to any IPv4 address. */
const SPECIAL_IPV6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

/** Addresses and networks (`10.0.0.0/8`, `::1`) as a list. Throws an Error that names what is neither. */
export function networkList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', bits] = network.split('/');
    const version = isIP(address);
    const most = version === 6 ? 128 : 32;
    const prefix = bits === undefined ? most : Number(bits);
    if (version === 0 || !Number.isInteger(prefix) || prefix < 0 || prefix > most)
      throw new Error(`${network} is not an address or network`);
    list.addSubnet(address, prefix, version === 6 ? 'ipv6' : 'ipv4');
  }
  return list;
}

const specialIpv4 = networkList(SPECIAL_IPV4);
const specialIpv6 = networkList(SPECIAL_IPV6);
/** All that is routed in IPv6. Outside of it: loopback, link-local, unique local, multicast, and IPv4 in disguise. */
const globalIpv6 = networkList(['2000::/3']);

/** May this address be dialled? `allowed`: what the operator lists beside the public ones. */
export function mayDial(address: string, allowed: BlockList): boolean {
  const version = isIP(address);
  if (version === 0) return false;
  const type = version === 6 ? 'ipv6' : 'ipv4';
  if (allowed.check(address, type)) return true;
  if (version === 4) return !specialIpv4.check(address, 'ipv4');
  return globalIpv6.check(address, 'ipv6') && !specialIpv6.check(address, 'ipv6');
}

/** The same, with the networks as they are written down. */
export const addressAllowed = (address: string, networks: readonly string[]): boolean => mayDial(address, networkList(networks));
