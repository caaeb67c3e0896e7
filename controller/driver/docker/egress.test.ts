import { describe, expect, it } from 'vitest';
import { canonical } from './firewall.ts';
import { chainsIn, inForce, jumps, listChain, nameserversIn, renderRules, type EgressRules } from './egress.ts';

const rules: EgressRules = {
  homeId: '0a1b2c3d',
  bridge: 'fn-0a1b2c3d',
  nameservers: ['10.0.0.2'],
  lists: [{ id: 'i-abcdefghijkl', ip: '172.18.0.5', networks: ['10.1.2.0/24'] }],
};

describe('renderRules', () => {
  it('is this', () => {
    expect(renderRules(rules, ['FN-0a1b2c3d-oldoldoldold'])).toMatchInlineSnapshot(`
      "*filter
      :FN-0a1b2c3d-FWD - [0:0]
      :FN-0a1b2c3d-IN - [0:0]
      :FN-0a1b2c3d-abcdefghijkl - [0:0]
      -A FN-0a1b2c3d-IN -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
      -A FN-0a1b2c3d-IN -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD ! -i fn-0a1b2c3d -o fn-0a1b2c3d -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
      -A FN-0a1b2c3d-FWD -o fn-0a1b2c3d -j DROP
      -A FN-0a1b2c3d-FWD -s 172.18.0.5/32 -g FN-0a1b2c3d-abcdefghijkl
      -A FN-0a1b2c3d-FWD -d 10.0.0.2/32 -p udp -m udp --dport 53 -j RETURN
      -A FN-0a1b2c3d-FWD -d 10.0.0.2/32 -p tcp -m tcp --dport 53 -j RETURN
      -A FN-0a1b2c3d-FWD -d 0.0.0.0/8 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 127.0.0.0/8 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 169.254.0.0/16 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 224.0.0.0/4 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 240.0.0.0/4 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 10.0.0.0/8 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 100.64.0.0/10 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 172.16.0.0/12 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 192.0.0.0/24 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 192.168.0.0/16 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -d 198.18.0.0/15 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-FWD -j RETURN
      -A FN-0a1b2c3d-abcdefghijkl -d 0.0.0.0/8 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-abcdefghijkl -d 127.0.0.0/8 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-abcdefghijkl -d 169.254.0.0/16 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-abcdefghijkl -d 224.0.0.0/4 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-abcdefghijkl -d 240.0.0.0/4 -j REJECT --reject-with icmp-admin-prohibited
      -A FN-0a1b2c3d-abcdefghijkl -d 10.1.2.0/24 -j RETURN
      -A FN-0a1b2c3d-abcdefghijkl -j REJECT --reject-with icmp-admin-prohibited
      -F FN-0a1b2c3d-oldoldoldold
      -X FN-0a1b2c3d-oldoldoldold
      COMMIT
      "
    `);
  });

  it('names chains that iptables takes', () => {
    expect(listChain('0a1b2c3d', 'i-abcdefghijkl').length).toBeLessThanOrEqual(28);
  });
});

describe('inForce', () => {
  const saved = (lines: string) =>
    `*filter\n:INPUT ACCEPT [0:0]\n:FN-0a1b2c3d-FWD - [1:2]\n${lines}${renderRules(rules)
      .split('\n')
      .filter((line) => line.startsWith('-A'))
      .join('\n')}\nCOMMIT\n`;
  const lead = jumps(rules, 'DOCKER-USER')
    .map(({ chain, rule }) => `-A ${chain} ${rule.join(' ')}\n`)
    .join('');

  it('sees what is missing', () => {
    expect(inForce(saved(lead), rules, 'DOCKER-USER')).toBe(true);
    expect(inForce(saved(''), rules, 'DOCKER-USER')).toBe(false);
    expect(
      inForce(
        saved(lead).replace('-A FN-0a1b2c3d-FWD -d 10.0.0.0/8 -j REJECT --reject-with icmp-admin-prohibited\n', ''),
        rules,
        'DOCKER-USER',
      ),
    ).toBe(false);
    expect(inForce(saved(lead).replace('-A FN-0a1b2c3d-IN', '-A FN-0a1b2c3d-FWD -j ACCEPT\n-A FN-0a1b2c3d-IN'), rules, 'DOCKER-USER')).toBe(
      false,
    );
  });

  it('finds our chains and no others', () => {
    expect(chainsIn(':INPUT ACCEPT [0:0]\n:FN-0a1b2c3d-FWD - [0:0]\n:FN-ffffffff-FWD - [0:0]\n', '0a1b2c3d')).toEqual(['FN-0a1b2c3d-FWD']);
  });
});

describe('canonical', () => {
  it('writes networks as iptables does', () => {
    expect(canonical('10.1.2.3/24')).toBe('10.1.2.0/24');
    expect(canonical('203.0.113.10')).toBe('203.0.113.10/32');
    expect(canonical('255.255.255.255/0')).toBe('0.0.0.0/0');
    expect(canonical('192.168.129.1/17')).toBe('192.168.128.0/17');
  });
});

describe('nameserversIn', () => {
  it('takes those that an instance can ask itself', () => {
    expect(nameserversIn('# x\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fe80::1\nsearch x\nnameserver 10.0.0.2\n')).toEqual([
      '10.0.0.2',
    ]);
  });
});
