/** Hosts of namespaces: whose a host is. Pure. */
import type { HostPattern } from '#contract/access.ts';
import type { FunctionRecord } from '../store/types.ts';

/** Whether a pattern that a namespace lists holds a host, or a pattern, that a route has. */
export function holds(listed: HostPattern, host: HostPattern): boolean {
  if (listed === host) return true;
  // `*` stands for one label; a route's own pattern is held only by the same one.
  return listed.startsWith('*.') && !host.startsWith('*.') && host.slice(host.indexOf('.')) === listed.slice(1);
}

/** A namespace and the hosts that are, or would be, its own. */
export interface HostList {
  name: string;
  hosts: readonly HostPattern[];
}

/**
 * Why a namespace may not have these hosts; null where it may. A host that is in two lists, or that a
 * route of another namespace uses which does not list it more closely, would be two tenants' at once;
 * one taken away while a route of its own uses it would leave that route without right.
 */
export function hostConflict(wanted: HostList, others: readonly HostList[], functions: readonly FunctionRecord[]): string | null {
  for (const other of others) {
    const both = other.hosts.find((host) => wanted.hosts.includes(host));
    if (both !== undefined) return `The host ${both} is the namespace ${other.name}'s.`;
  }
  for (const { namespace, name, access } of functions) {
    const own = others.find((other) => other.name === namespace)?.hosts ?? [];
    for (const { host } of access.routes) {
      if (host === undefined) continue;
      const isWanted = wanted.hosts.some((listed) => holds(listed, host));
      if (namespace === wanted.name) {
        if (!isWanted && namespace !== 'default')
          return `The function ${name} has a route for the host ${host}: take the route away first.`;
      } else if (isWanted && !own.includes(host))
        return `The function ${name} of the namespace ${namespace} has a route for the host ${host}.`;
    }
  }
  return null;
}
