/** Where triggers and destinations may dial: the name is resolved here, the address checked, and that very address dialled. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { FnError } from '#contract/errors.ts';
import { mayDial, networkList } from './public-address.ts';

/** Looking up a name takes at most so long, ms. */
const LOOKUP_TIMEOUT_MS = 5_000;
/** Link-local addresses, where clouds keep their metadata: never dialled for a tenant, whatever is listed. */
const NEVER = networkList(['169.254.0.0/16', 'fe80::/10', 'fd00:ec2::254/128']);

/** The address to dial for a host, and the name its certificate is checked against. */
export type ResolveHost = (host: string, port: number) => Promise<{ host: string; servername: string | undefined }>;

export type LookUp = (host: string) => Promise<readonly { address: string }[]>;

const lookUpAll: LookUp = async (host) => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${LOOKUP_TIMEOUT_MS} ms`)), LOOKUP_TIMEOUT_MS);
  });
  // A lookup cannot be aborted: it is left to itself.
  return Promise.race([lookup(host, { all: true, verbatim: true }), late]).finally(() => clearTimeout(timer));
};

/**
 * `networks`: those beside public addresses; null: any address. The resolver throws FnError forbidden where no address of the host
 * may be dialled, and an Error where it cannot be looked up.
 */
export function resolverFor(networks: readonly string[] | null, lookUp: LookUp = lookUpAll): ResolveHost {
  const allowed = networkList(networks ?? []);
  const may = (address: string): boolean => {
    if (networks === null) return true;
    // An IPv4 address in the clothes of IPv6 is not routed as IPv6, and mayDial refuses it.
    return !NEVER.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4') && mayDial(address, allowed);
  };
  return async (given) => {
    const host = given.replace(/^\[|\]$/g, '');
    const literal = isIP(host) !== 0;
    const addresses = literal ? [{ address: host }] : await lookUp(host);
    const found = addresses.find(({ address }) => may(address));
    if (found === undefined) {
      const what = literal ? `${host} may not be dialled` : `${host} has no address that may be dialled`;
      throw new FnError('forbidden', `${what} by functions of this namespace: neither a public address nor one of its networks.`);
    }
    // The certificate is checked against the name, not against the address.
    return { host: found.address, servername: literal ? undefined : host };
  };
}
