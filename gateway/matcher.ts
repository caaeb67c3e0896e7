/**
 * Routes with hosts and patterns, compiled when they change: a tree of segments for each host. Walking
 * it literal before `:name` before `*` meets routes in the order of compareRoutes (route-order.ts),
 * and no node twice. What it costs is paid by functions that have such routes; see docs/decisions/0018.
 */
import type { RouteSpec } from '#contract/access.ts';
import { compareRoutes, methodMatches, pathSegments } from '#contract/route-order.ts';

/** A route of a function, ready to be matched. */
export interface CompiledRoute {
  /** Whose it is. */
  readonly namespace: string;
  /** The function's key in the route table. */
  readonly key: string;
  readonly spec: RouteSpec;
  /** Path for cookies: what all paths of the route begin with. */
  readonly cookiePath: string;
}

interface Node {
  readonly literals: Map<string, Node>;
  name: Node | null;
  /** Routes that end here, by precedence: those with methods first. */
  readonly ends: CompiledRoute[];
  /** Routes that end here in `*`. */
  readonly rests: CompiledRoute[];
}

const node = (): Node => ({ literals: new Map(), name: null, ends: [], rests: [] });

/** Methods that would have been served, gathered while nothing matches: for Allow. */
export type Allowed = Set<string>;

/**
 * The host that a Host header names: lower case, without port and without the dot that ends a full name.
 * Null for what no host pattern can match (an IPv6 address, nothing).
 */
export function hostName(header: string): string | null {
  if (header.charCodeAt(0) === 91) return null;
  const colon = header.indexOf(':');
  const host = (colon < 0 ? header : header.slice(0, colon)).toLowerCase();
  const name = host.endsWith('.') ? host.slice(0, -1) : host;
  return name === '' ? null : name;
}

export class Matcher {
  readonly #exact = new Map<string, Node>();
  /** `.example.com` for `*.example.com` */
  readonly #wildcard = new Map<string, Node>();
  readonly #anyHost = node();
  /** By the host as routes say it: the namespaces that have some for it. */
  readonly #owners = new Map<string, Set<string>>();

  constructor(routes: Iterable<{ key: string; namespace: string; spec: RouteSpec }>) {
    for (const { key, namespace, spec } of routes) this.#add(key, namespace, spec);
  }

  /** Is there a route with a host at all? */
  get hasHosts(): boolean {
    return this.#exact.size > 0 || this.#wildcard.size > 0;
  }

  /** Among the routes of this Host header: the exact host's before those of `*.`. */
  onHost(header: string, url: string, method: string, allowed: Allowed): CompiledRoute | null {
    const host = hostName(header);
    if (host === null) return null;
    const exact = this.#exact.get(host);
    const dot = host.indexOf('.');
    const wildcard = dot > 0 ? this.#wildcard.get(host.slice(dot)) : undefined;
    if (exact === undefined && wildcard === undefined) return null;
    const segments = segmentsOf(url);
    const route = exact === undefined ? null : find(exact, segments, 0, method, allowed);
    if (route !== null || wildcard === undefined) return route;
    const wider = find(wildcard, segments, 0, method, allowed);
    return wider === null || exact === undefined || this.#owners.get(host)!.has(wider.namespace) ? wider : null;
  }

  /** Does a host belong to a namespace, so that what is there is one site? Null: it is everybody's, or nobody's. */
  ownersOf(header: string): ReadonlySet<string> | null {
    const host = hostName(header);
    if (host === null) return null;
    return this.#owners.get(host) ?? this.#owners.get(`*${host.slice(Math.max(0, host.indexOf('.')))}`) ?? null;
  }

  /** Among the routes without a host. */
  onAnyHost(url: string, method: string, allowed: Allowed): CompiledRoute | null {
    return find(this.#anyHost, segmentsOf(url), 0, method, allowed);
  }

  #add(key: string, namespace: string, spec: RouteSpec): void {
    if (spec.host !== undefined) setOf(this.#owners, spec.host).add(namespace);
    let at = this.#root(spec.host);
    const fixed: string[] = [];
    let list: CompiledRoute[] | null = null;
    let literal = true;
    for (const segment of pathSegments(spec.path)) {
      if (segment.kind === 'rest') {
        list = at.rests;
        break;
      }
      if (segment.kind === 'literal') {
        if (literal && segment.text !== '') fixed.push(segment.text);
        at = childOf(at.literals, segment.text);
      } else {
        literal = false;
        at = at.name ??= node();
      }
    }
    list ??= at.ends;
    list.push({ key, namespace, spec, cookiePath: `/${fixed.join('/')}` });
    list.sort((a, b) => compareRoutes(a.spec, b.spec));
  }

  #root(host: string | undefined): Node {
    if (host === undefined) return this.#anyHost;
    return host.startsWith('*.') ? childOf(this.#wildcard, host.slice(1)) : childOf(this.#exact, host);
  }
}

function setOf(sets: Map<string, Set<string>>, key: string): Set<string> {
  let set = sets.get(key);
  if (set === undefined) {
    set = new Set();
    sets.set(key, set);
  }
  return set;
}

/** Of an origin-form target, without its query. */
function segmentsOf(url: string): string[] {
  const query = url.indexOf('?');
  return url.slice(1, query < 0 ? url.length : query).split('/');
}

function childOf(children: Map<string, Node>, key: string): Node {
  let child = children.get(key);
  if (child === undefined) {
    child = node();
    children.set(key, child);
  }
  return child;
}

/** Every node stands at one depth, so it is visited once at most, however the path looks. */
function find(at: Node, path: readonly string[], depth: number, method: string, allowed: Allowed): CompiledRoute | null {
  const text = path[depth];
  if (text === undefined) return served(at.ends, method, allowed) ?? served(at.rests, method, allowed);
  const literal = at.literals.get(text);
  const byLiteral = literal === undefined ? null : find(literal, path, depth + 1, method, allowed);
  if (byLiteral !== null) return byLiteral;
  const byName = at.name === null || text === '' ? null : find(at.name, path, depth + 1, method, allowed);
  return byName ?? served(at.rests, method, allowed);
}

function served(routes: readonly CompiledRoute[], method: string, allowed: Allowed): CompiledRoute | null {
  for (const route of routes) {
    const { methods } = route.spec;
    if (methodMatches(methods, method)) return route;
    for (const one of methods!) allowed.add(one);
    if (methods!.includes('GET')) allowed.add('HEAD');
  }
  return null;
}
