/** Networks that instances may not dial, the same for every driver that can hold them to it. */

/** Never to be dialled, not even when it is listed: this host by other names, link-local (cloud metadata), all that is not unicast. */
export const NEVER = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '240.0.0.0/4'] as const;

/** Not the internet, beside NEVER: private (RFC 1918), carrier-grade NAT (6598), protocol assignments (6890), benchmarks (2544). */
export const PRIVATE = ['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.0.0.0/24', '192.168.0.0/16', '198.18.0.0/15'] as const;

/** Whether IPv4 network `outer` holds all of `inner`; an address is a network of one. */
export function contains(outer: string, inner: string): boolean {
  const [network, bits] = range(outer);
  const [other, otherBits] = range(inner);
  // Divided, not shifted: a shift by 32 would be one by none.
  const prefix = (address: number) => Math.floor(address / 2 ** (32 - bits));
  return otherBits >= bits && prefix(other) === prefix(network);
}

function range(cidr: string): [network: number, bits: number] {
  const [address = '', bits = '32'] = cidr.split('/');
  return [address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0), Number(bits)];
}
