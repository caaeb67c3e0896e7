/**
 * Who may have which route. The controller checks before anything is committed; gateways only match.
 * `/NAME` of a function of `default` and `/@NS/NAME` of the others are theirs whatever routes there are.
 */
import { routeText, type FunctionAccess, type RouteSpec } from '#contract/access.ts';
import { FnError } from '#contract/errors.ts';
import { DEFAULT_NAMESPACE } from '#contract/names.ts';
import { clash, hostMatches, pathSegments, shadowed } from '#contract/route-order.ts';
import type { Tenancy } from './context.ts';

/** A function as its routes are compared with others'. */
export interface RouteOwner {
  namespace: string;
  name: string;
  access: FunctionAccess;
}

/** Hosts of the platform itself, where the URLs of all functions are; beside them any IP address is, and localhost. */
export type PlatformHosts = readonly string[];

type Namespaces = ReturnType<Tenancy['namespaces']>;

/**
 * Throws FnError invalid (a route that makes no sense by itself), forbidden (a host that the namespace
 * may not use), route-conflict (a request that two functions would get), which names both.
 */
export function checkRoutes(candidate: RouteOwner, others: readonly RouteOwner[], namespaces: Namespaces, platform: PlatformHosts): void {
  const { routes } = candidate.access;
  for (const [index, route] of routes.entries()) {
    checkAlone(routes, index);
    if (candidate.namespace === DEFAULT_NAMESPACE && shadowed(route) === candidate.name)
      throw invalid(index, `/${candidate.name} and all below it is the function's already`);
    checkHost(candidate.namespace, route, index, { namespaces, platform });
  }
  for (const other of others) {
    if (other.namespace === candidate.namespace && other.name === candidate.name) continue;
    for (const theirs of other.access.routes) {
      const mine = routes.find((route) => clash(route, theirs));
      if (mine) throw conflict(candidate, routeText(mine), other, routeText(theirs));
      if (candidate.namespace === DEFAULT_NAMESPACE && shadowed(theirs) === candidate.name)
        throw conflict(candidate, `/${candidate.name}`, other, routeText(theirs));
    }
    if (other.namespace !== DEFAULT_NAMESPACE) continue;
    const mine = routes.find((route) => shadowed(route) === other.name);
    if (mine) throw conflict(candidate, routeText(mine), other, `/${other.name}`);
  }
}

function checkAlone(routes: readonly RouteSpec[], index: number): void {
  const route = routes[index]!;
  const twin = routes.slice(0, index).findIndex((other) => clash(other, route));
  if (twin >= 0) throw invalid(index, `the same requests as route ${twin + 1} (${routeText(routes[twin]!)})`);
  if (route.host === undefined && route.path.startsWith('/@'))
    throw invalid(index, 'without a host, paths that begin with /@ belong to the namespaces');
  if (route.stripPrefix === undefined) return;
  const segments = pathSegments(route.path);
  const inside = pathSegments(route.stripPrefix).every((part, at) => {
    const segment = segments[at];
    return part.kind === 'literal' && segment?.kind === 'literal' && segment.text === part.text;
  });
  if (!inside) throw invalid(index, `stripPrefix ${route.stripPrefix} is not the beginning of the path ${route.path}`);
}

/** Whether a host that a namespace lists allows this one; `*.example.com` allows itself and all that it stands for. */
const allowsHost = (listed: string, host: string): boolean => listed === host || (!host.startsWith('*.') && hostMatches(listed, host));

interface Hosts {
  namespaces: Namespaces;
  platform: PlatformHosts;
}

/** Routes with a host go before `/NAME` and `/@NS/NAME`: on a host that all share they would take what is others', tokens and all. */
const isShared = (host: string, platform: PlatformHosts): boolean =>
  /^[\d.]+$/.test(host) || host === 'localhost' || platform.some((one) => hostMatches(host, one) || hostMatches(one, host));

function checkHost(namespace: string, route: RouteSpec, index: number, { namespaces, platform }: Hosts): void {
  const { host } = route;
  const lists = (name: string) => namespaces.find((one) => one.name === name)?.settings.hosts ?? [];
  const listedHere = host !== undefined && lists(namespace).some((listed) => allowsHost(listed, host));
  if (listedHere) return;
  const pointer = `/access/routes/${index}/host`;
  if (namespace !== DEFAULT_NAMESPACE) {
    const hosts = lists(namespace).join(', ') || 'none yet';
    const why = host === undefined ? 'needs a host' : `must not have the host ${host}`;
    const detail = `A route of namespace ${namespace} ${why}; its hosts are: ${hosts}. An admin of the platform lists them.`;
    throw new FnError('forbidden', detail, { errors: [{ pointer, detail: `one of: ${hosts}` }] });
  }
  if (host === undefined) return;
  if (isShared(host, platform)) {
    const detail = `The URLs of all functions are on the host ${host}. An admin of the platform can give it to the namespace ${namespace}: fn namespace set.`;
    throw new FnError('forbidden', detail, { errors: [{ pointer, detail: 'a host of its own, or none' }] });
  }
  const elsewhere = namespaces.some((one) => one.name !== namespace && one.settings.hosts.some((listed) => allowsHost(listed, host)));
  if (elsewhere)
    throw new FnError('forbidden', `The host ${host} belongs to another namespace.`, { errors: [{ pointer, detail: 'another host' }] });
}

const invalid = (index: number, detail: string): FnError =>
  new FnError('invalid', `Route ${index + 1} cannot be: ${detail}.`, { errors: [{ pointer: `/access/routes/${index}`, detail }] });

/** A function of another namespace is not named: whoever asks may not be allowed to know of it. */
function conflict(candidate: RouteOwner, mine: string, other: RouteOwner, theirs: string): FnError {
  if (other.namespace !== candidate.namespace)
    return new FnError('route-conflict', `The route ${mine} of ${candidate.name} and one of a function of another namespace are the same.`);
  return new FnError(
    'route-conflict',
    `The route ${mine} of ${candidate.name} and the route ${theirs} of ${other.name} are for the same requests.`,
  );
}
