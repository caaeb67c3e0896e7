/** Who the client is, where there are proxies between. */
import { type BlockList, isIP, isIPv6 } from 'node:net';

/** `::ffff:10.0.0.1` is 10.0.0.1. Empty for a unix socket. */
export function plainAddress(address: string | undefined): string {
  if (address === undefined) return '';
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}

export const isTrusted = (address: string, trusted: BlockList): boolean =>
  isIP(address) !== 0 && trusted.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');

/**
 * The address of the client: of the peer, or behind trusted proxies the last one in X-Forwarded-For
 * that is none of them. `forwardedFor` is null where the peer is not trusted. What is no address ends
 * the search: whoever wrote it is the last that is known.
 */
export function clientAddress(remote: string, forwardedFor: string | null, trusted: BlockList): string {
  if (forwardedFor === null) return remote;
  let client = remote;
  for (const part of forwardedFor.split(',').toReversed()) {
    const address = plainAddress(part.trim());
    if (isIP(address) === 0) break;
    client = address;
    if (!isTrusted(address, trusted)) break;
  }
  return client;
}

/** What counts as one client: an IPv4 address, or the /64 that one subscriber of IPv6 has to himself. */
export function addressKey(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.split('%')[0]!.toLowerCase().split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array.from({ length: zeros }, () => '0'), ...right];
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}
