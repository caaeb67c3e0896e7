/**
 * What instances may dial, as iptables rules. Pure: the text that `iptables-restore` is given.
 *
 * Two chains of ours per home. FWD sees what instances send beyond the host (from DOCKER-USER), IN
 * what they send to it (from INPUT). By default an instance on our bridge is of the class `internet`;
 * a generic one runs nothing but our shim, so that is safe, and the common case costs nothing when
 * an instance is specialised. Only a list of networks needs a rule: a chain per instance, entered by
 * its address, and set before the function's code is there.
 *
 * Refusals are told to the instance at once (REJECT), so that a forbidden call fails in a millisecond
 * instead of a timeout.
 */
import { NEVER, PRIVATE } from '../networks.ts';

export interface EgressRules {
  homeId: string;
  /** Network interface of our bridge. */
  bridge: string;
  /** IPv4 addresses of DNS servers that instances of the class `internet` may ask, wherever they are. */
  nameservers: string[];
  /** Instances with a list of networks. */
  lists: { id: string; ip: string; networks: string[] }[];
}

export interface Chains {
  forward: string;
  input: string;
  /** All of ours begin so. */
  prefix: string;
}

export function chainsOf(homeId: string): Chains {
  return { forward: `FN-${homeId}-FWD`, input: `FN-${homeId}-IN`, prefix: `FN-${homeId}-` };
}

/** Chain of one instance; at most 28 characters, as iptables wants. */
export function listChain(homeId: string, id: string): string {
  return `FN-${homeId}-${id.replace(/^i-/, '')}`;
}

const REFUSE = '-j REJECT --reject-with icmp-admin-prohibited';

/**
 * The whole content of our chains, for `iptables-restore --noflush`: one transaction, in which there
 * is never a moment without rules. `obsolete` are chains of ours that are there and no longer needed.
 */
export function renderRules(rules: EgressRules, obsolete: string[] = []): string {
  const { forward, input } = chainsOf(rules.homeId);
  const lines = ['*filter', `:${forward} - [0:0]`, `:${input} - [0:0]`];
  for (const list of rules.lists) lines.push(`:${listChain(rules.homeId, list.id)} - [0:0]`);
  // Answers to what the host began; everything else to the host is refused, whatever address it has.
  lines.push(`-A ${input} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN`, `-A ${input} ${REFUSE}`);
  lines.push(...forwardRules(rules, forward));
  for (const list of rules.lists) lines.push(...listRules(rules, list));
  for (const chain of obsolete) lines.push(`-F ${chain}`, `-X ${chain}`);
  return `${lines.join('\n')}\nCOMMIT\n`;
}

function forwardRules({ homeId, bridge, nameservers, lists }: EgressRules, chain: string): string[] {
  const rules = [
    // To instances: only answers to what they sent.
    `-A ${chain} ! -i ${bridge} -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN`,
    `-A ${chain} -o ${bridge} -j DROP`,
  ];
  // From instances, from here on. There is no short cut for known connections: an address that is
  // used again must not inherit what the one before it was allowed.
  for (const { id, ip } of lists) rules.push(`-A ${chain} -s ${ip}/32 -g ${listChain(homeId, id)}`);
  for (const server of nameservers) {
    for (const protocol of ['udp', 'tcp']) rules.push(`-A ${chain} -d ${server}/32 -p ${protocol} -m ${protocol} --dport 53 -j RETURN`);
  }
  for (const network of [...NEVER, ...PRIVATE]) rules.push(`-A ${chain} -d ${network} ${REFUSE}`);
  rules.push(`-A ${chain} -j RETURN`);
  return rules;
}

function listRules({ homeId }: EgressRules, { id, networks }: EgressRules['lists'][number]): string[] {
  const chain = listChain(homeId, id);
  return [
    ...NEVER.map((network) => `-A ${chain} -d ${network} ${REFUSE}`),
    // Entered by -g, so this returns to DOCKER-USER: on to the operator's own rules, then to Docker's.
    ...networks.map((network) => (network === '0.0.0.0/0' ? `-A ${chain} -j RETURN` : `-A ${chain} -d ${network} -j RETURN`)),
    `-A ${chain} ${REFUSE}`,
  ];
}

/** The rules that lead into our chains. `base` is DOCKER-USER where Docker made it, else FORWARD. */
export function jumps(
  { homeId, bridge }: Pick<EgressRules, 'homeId' | 'bridge'>,
  base: 'DOCKER-USER' | 'FORWARD',
): { chain: string; rule: string[] }[] {
  const { forward, input } = chainsOf(homeId);
  return [
    { chain: base, rule: ['-i', bridge, '-j', forward] },
    { chain: base, rule: ['-o', bridge, '-j', forward] },
    { chain: 'INPUT', rule: ['-i', bridge, '-j', input] },
  ];
}

/**
 * Whether what `iptables-save` shows is what `renderRules` and `jumps` ask for: our jumps first in
 * their chains, our chains line by line.
 */
export function inForce(saved: string, rules: EgressRules, base: 'DOCKER-USER' | 'FORWARD'): boolean {
  const { prefix } = chainsOf(rules.homeId);
  const wanted = renderRules(rules)
    .split('\n')
    .filter((line) => line.startsWith('-A '));
  const there = saved.split('\n').filter((line) => line.startsWith(`-A ${prefix}`));
  if (there.length !== wanted.length) return false;
  const lines = new Set(there);
  if (!wanted.every((line) => lines.has(line))) return false;
  const all = new Set(saved.split('\n'));
  return jumps(rules, base).every(({ chain, rule }) => all.has(`-A ${chain} ${rule.join(' ')}`));
}

/** Chains of ours that `iptables-save` shows. */
export function chainsIn(saved: string, homeId: string): string[] {
  const { prefix } = chainsOf(homeId);
  return saved
    .split('\n')
    .filter((line) => line.startsWith(`:${prefix}`))
    .map((line) => line.slice(1).split(' ')[0]!);
}

/** IPv4 name servers in a resolv.conf that an instance could ask itself; those on a loopback are asked by Docker, on the host. */
export function nameserversIn(resolvConf: string): string[] {
  const found = resolvConf.matchAll(/^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$/gm);
  return [...new Set([...found].map((match) => match[1]!))].filter((address) => !address.startsWith('127.')).slice(0, 3);
}
