import { BlockList } from 'node:net';
import { describe, expect, it } from 'vitest';
import { addressKey, clientAddress, plainAddress } from './client-address.ts';

const trusted = new BlockList();
trusted.addSubnet('10.0.0.0', 8, 'ipv4');
trusted.addSubnet('fd00::', 8, 'ipv6');

describe('the client', () => {
  it.each<[string, string | null, string]>([
    ['192.0.2.1', null, '192.0.2.1'],
    ['10.0.0.1', '203.0.113.9', '203.0.113.9'],
    ['10.0.0.1', '6.6.6.6, 203.0.113.9', '203.0.113.9'],
    ['10.0.0.1', '6.6.6.6, 203.0.113.9, 10.0.0.2', '203.0.113.9'],
    ['10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
    ['10.0.0.1', '6.6.6.6, junk', '10.0.0.1'],
    ['10.0.0.1', '6.6.6.6, junk, 10.0.0.2', '10.0.0.2'],
    ['10.0.0.1', '', '10.0.0.1'],
    ['10.0.0.1', 'unknown', '10.0.0.1'],
    ['10.0.0.1', '6.6.6.6:1234', '10.0.0.1'],
    ['10.0.0.1', '2001:db8::7, fd00::1', '2001:db8::7'],
    ['10.0.0.1', '::ffff:203.0.113.9', '203.0.113.9'],
  ])('behind %s with X-Forwarded-For %j is %s', (remote, forwarded, client) => {
    expect(clientAddress(remote, forwarded, trusted)).toBe(client);
  });

  it.each([
    ['192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:0DB8:0001:0002::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', ''],
  ])('%s counts as %s', (address, key) => expect(addressKey(address)).toBe(key));

  it('an IPv4 address in IPv6 is the address', () => {
    expect([plainAddress('::ffff:10.0.0.1'), plainAddress('::1'), plainAddress(undefined)]).toEqual(['10.0.0.1', '::1', '']);
  });
});
