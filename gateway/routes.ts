/**
 * Which function, and which revision of it, a request is for. Paths are compared byte by byte as they
 * came: nothing is decoded. In this order: routes for its host, `/NAME` and `/@NS/NAME` (with `@7`: that
 * revision), routes for any host.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ErrorCode } from '#contract/errors.ts';
import type { Route, RouteTarget } from '#contract/link.ts';
import { DEFAULT_NAMESPACE, functionPath, parseRevisionKey } from '#contract/names.ts';
import { RESERVED_PREFIX } from '#contract/runtime.ts';
import { CorsRules } from './cors.ts';
import { Desk } from './desk.ts';
import { valueOf } from './flat-headers.ts';
import type { RequestHead } from './headers.ts';
import { type Allowed, type CompiledRoute, Matcher } from './matcher.ts';
import { bucketOf, bucketOfCookie, randomBucket, sharesOf, targetOf } from './traffic.ts';

/** A revision that requests are for. */
export interface Target extends RouteTarget {
  readonly desk: Desk;
}

export interface RouteEntry {
  readonly route: Route;
  readonly targets: readonly Target[];
  /** What the function's URLs begin with: `/NAME` or `/@NS/NAME`. */
  readonly prefix: string;
  /** The revision that gets all requests; null where traffic is split. */
  readonly sole: Target | null;
  /** Those with a share, by number. */
  readonly shares: readonly Target[];
  readonly cors: CorsRules | null;
  /** Anybody may call it, as often as they like: nothing is to be checked. */
  readonly open: boolean;
}

export interface RouteMatch {
  readonly entry: RouteEntry;
  /** The revision that this request is for. */
  readonly target: Target;
  /** Asked for by its preview URL: no other revision may answer. */
  readonly pinned: boolean;
  /** Where traffic is split: what decided; else −1. */
  readonly bucket: number;
  /** The bucket is news to the client, and is to be told as a cookie. */
  readonly freshBucket: boolean;
  /** What of the URL's path the function does not see. */
  readonly prefix: string;
  /** The route that it came by; null for `/NAME`. */
  readonly via: CompiledRoute | null;
  /** What the function gets to see: begins with `/`, query included. */
  readonly rest: string;
}

/**
 * Whether it came by `/@NS/NAME`, so that the host may be other tenants' as well. On a host of its own a
 * namespace has routes; `default` has the platform's.
 */
export const isOnSharedHost = ({ entry, via }: RouteMatch): boolean =>
  via?.spec.host === undefined && entry.route.namespace !== DEFAULT_NAMESPACE;

/** No function for this request. */
export interface RouteMiss {
  readonly code: ErrorCode;
  readonly detail: string;
  /** The value of Allow, where another method would be served. */
  readonly allow?: string;
}

/** What a route looks at beside the URL. */
export type RoutedHead = Pick<RequestHead, 'host' | 'forward'>;

const SLASH = 47;
const QUERY = 63;
const AT = 64;
const PREVIEW = /^(.+)@([1-9][0-9]{0,9})$/;

const NO_FUNCTION: RouteMiss = {
  code: 'function-not-found',
  detail: 'no function has this path; functions are at /NAME or /@NAMESPACE/NAME',
};

/** Paths that belong to the runtime's shim, on whatever function: they are never forwarded. */
export function isReserved(rest: string): boolean {
  return rest.startsWith(RESERVED_PREFIX) || rest === '/.fn' || rest.startsWith('/.fn?');
}

/** Index of the first `/` or `?` at or after `from`, or the length. */
function segmentEnd(url: string, from: number): number {
  for (let i = from; i < url.length; i++) {
    const char = url.charCodeAt(i);
    if (char === SLASH || char === QUERY) return i;
  }
  return url.length;
}

export class RouteTable {
  /** `NAME` for the default namespace, `@NS/NAME` for others: what stands between the slashes. */
  #entries = new Map<string, RouteEntry>();
  #version = -1;
  /** Null where no function has routes. */
  #matcher: Matcher | null = null;
  /** Of the request that is being matched; one for all, so that a request to `/NAME` makes none. */
  readonly #allowed: Allowed = new Set();
  /** Routes have changed since it was compiled: a thousand deployments compile once. */
  #stale = false;

  /** Has the controller told what there is? Before that nothing can be said to be absent. */
  get ready(): boolean {
    return this.#version >= 0;
  }

  get version(): number {
    return this.#version;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Takes the place of all routes. Returns the revisions that lost their share, or are kept no more. */
  replace(version: number, routes: readonly Route[]): string[] {
    const before = this.#entries;
    this.#entries = new Map();
    this.#stale = true;
    this.#version = version;
    for (const route of routes) this.#put(route, before.get(keyOf(route.namespace, route.name)));
    return [...before].flatMap(([key, { route }]) => lostShares(route, this.#entries.get(key)?.route));
  }

  /** Applies a change. Returns the revisions that lost their share, or are kept no more. */
  change(version: number, set: readonly Route[], remove: readonly { namespace: string; name: string }[]): string[] {
    this.#version = version;
    const lost: string[] = [];
    for (const route of set) {
      const before = this.#entries.get(keyOf(route.namespace, route.name));
      this.#put(route, before);
      if (before) lost.push(...lostShares(before.route, route));
    }
    for (const { namespace, name } of remove) {
      const key = keyOf(namespace, name);
      const before = this.#entries.get(key);
      if (before && before.route.routes.length > 0) this.#stale = true;
      if (before && this.#entries.delete(key)) lost.push(...lostShares(before.route, undefined));
    }
    return lost;
  }

  #put(route: Route, before: RouteEntry | undefined): void {
    const key = keyOf(route.namespace, route.name);
    const deskOf = (revision: string) => before?.targets.find((one) => one.revision === revision)?.desk ?? new Desk();
    const targets = route.targets.map((target) => ({ ...target, desk: deskOf(target.revision) }));
    const shares = sharesOf(targets);
    const sole = shares.length > 1 ? null : (shares[0] ?? targets[0]!);
    this.#entries.set(key, {
      route,
      targets,
      prefix: functionPath(route.namespace, route.name),
      sole,
      shares,
      cors: route.cors === null ? null : new CorsRules(route.cors),
      open: route.auth.type === 'public' && route.rateLimit === null,
    });
    if (!isDeepStrictEqual(before?.route.routes ?? [], route.routes)) this.#stale = true;
  }

  #compile(): void {
    this.#stale = false;
    const all = [...this.#entries].flatMap(([key, { route }]) => route.routes.map((spec) => ({ key, namespace: route.namespace, spec })));
    this.#matcher = all.length === 0 ? null : new Matcher(all);
  }

  find(namespace: string, name: string): RouteEntry | undefined {
    return this.#entries.get(keyOf(namespace, name));
  }

  /** Whom an event is for: a revision by its key, or (null) as the traffic is, by chance. `path` is what the function sees. */
  named(namespace: string, name: string, revision: string | null, path: string): RouteMatch | RouteMiss {
    const entry = this.find(namespace, name);
    if (entry === undefined) return { code: 'function-not-found', detail: `there is no function ${name} in the namespace ${namespace}` };
    const shared = { entry, freshBucket: false, prefix: '', via: null, rest: path };
    if (revision === null) {
      const bucket = entry.sole === null ? randomBucket() : -1;
      return { ...shared, target: entry.sole ?? targetOf(entry.shares, bucket), pinned: false, bucket };
    }
    const target = entry.targets.find((one) => one.revision === revision);
    return target === undefined ? noRevision(entry, parseRevisionKey(revision).number) : { ...shared, target, pinned: true, bucket: -1 };
  }

  /** May what is of this namespace be told of on this host? On a tenant's own host there is only what is the tenant's. */
  hostServes(host: string | null, namespace: string): boolean {
    if (this.#stale) this.#compile();
    const owners = host === null ? null : (this.#matcher?.ownersOf(host) ?? null);
    return owners === null || owners.has(DEFAULT_NAMESPACE) || owners.has(namespace);
  }

  /** Whom a request with this origin-form target (`/hello/a?b`) is for. */
  match(url: string, method: string, head: RoutedHead): RouteMatch | RouteMiss {
    if (this.#stale) this.#compile();
    const matcher = this.#matcher;
    if (matcher === null) return this.#byName(url, head) ?? NO_FUNCTION;
    const allowed = this.#allowed;
    if (allowed.size > 0) allowed.clear();
    if (matcher.hasHosts && head.host !== null) {
      const route = matcher.onHost(head.host, url, method, allowed);
      if (route !== null) return this.#byRoute(route, url, head);
      // A tenant's own host is one origin to browsers: another tenant's function there would have its cookies.
      const owners = matcher.ownersOf(head.host);
      if (owners !== null && !owners.has(DEFAULT_NAMESPACE)) return this.#ownOnly(owners, url, head, allowed);
    }
    const named = this.#byName(url, head);
    if (named !== null) return named;
    const route = matcher.onAnyHost(url, method, allowed);
    if (route !== null) return this.#byRoute(route, url, head);
    return missed(allowed);
  }

  /** On a host of namespaces: their functions, by name. */
  #ownOnly(owners: ReadonlySet<string>, url: string, head: RoutedHead, allowed: Allowed): RouteMatch | RouteMiss {
    const own = url.charCodeAt(1) === AT && owners.has(url.slice(2, segmentEnd(url, 2)));
    return (own ? this.#byName(url, head) : null) ?? missed(allowed);
  }

  /** `/NAME/…`, `/@NS/NAME/…`, or one of them with `@7`. */
  #byName(url: string, head: RoutedHead): RouteMatch | RouteMiss | null {
    let end = segmentEnd(url, 1);
    if (url.charCodeAt(1) === AT) {
      if (url.charCodeAt(end) !== SLASH) return null;
      end = segmentEnd(url, end + 1);
    }
    const key = url.slice(1, end);
    const entry = this.#entries.get(key);
    if (entry !== undefined) return chosen(entry, entry.prefix, restOf(url, end), head, null);
    return this.#preview(key, restOf(url, end));
  }

  #byRoute(route: CompiledRoute, url: string, head: RoutedHead): RouteMatch {
    const { stripPrefix } = route.spec;
    const strip = stripPrefix !== undefined && url.startsWith(stripPrefix) && segmentEnd(url, stripPrefix.length) === stripPrefix.length;
    const prefix = strip ? stripPrefix : '';
    return chosen(this.#entries.get(route.key)!, prefix, strip ? restOf(url, prefix.length) : url, head, route);
  }

  /** `/NAME@7`, whatever the traffic. */
  #preview(key: string, rest: string): RouteMatch | RouteMiss | null {
    const parts = PREVIEW.exec(key);
    const entry = parts === null ? undefined : this.#entries.get(parts[1]!);
    if (parts === null || entry === undefined) return null;
    const number = Number(parts[2]);
    const target = entry.targets.find((one) => one.number === number);
    if (target === undefined) return noRevision(entry, number);
    return { entry, target, pinned: true, bucket: -1, freshBucket: false, prefix: `/${key}`, via: null, rest };
  }

  /**
   * The same request by the routes as they are now: the revision that it was for where that still has a
   * share (or was asked for by name), else the one that its bucket belongs to now.
   */
  again(match: RouteMatch): RouteMatch | RouteMiss {
    const { namespace, name } = match.entry.route;
    const entry = this.find(namespace, name);
    if (entry === undefined) return { code: 'function-not-found', detail: `there is no function ${name} any more` };
    if (entry === match.entry) return match;
    const { number } = match.target;
    const same = entry.targets.find((one) => one.number === number);
    if (same !== undefined && (match.pinned || same.percent > 0)) return { ...match, entry, target: same };
    if (match.pinned) return noRevision(entry, number);
    const bucket = match.bucket >= 0 ? match.bucket : randomBucket();
    return { ...match, entry, target: entry.sole ?? targetOf(entry.shares, bucket), bucket };
  }
}

function missed(allowed: Allowed): RouteMiss {
  if (allowed.size === 0) return NO_FUNCTION;
  const allow = [...allowed].join(', ');
  return { code: 'method-not-allowed', detail: `this path takes ${allow}`, allow };
}

function keyOf(namespace: string, name: string): string {
  return namespace === DEFAULT_NAMESPACE ? name : `@${namespace}/${name}`;
}

const noRevision = ({ route }: RouteEntry, number: number): RouteMiss => ({
  code: 'revision-not-found',
  detail: `${route.name} has no revision ${number} that is kept`,
});

function restOf(url: string, end: number): string {
  if (end === url.length) return '/';
  return url.charCodeAt(end) === QUERY ? `/${url.slice(end)}` : url.slice(end);
}

/** With the revision that this client gets. */
function chosen(entry: RouteEntry, prefix: string, rest: string, head: RoutedHead, via: CompiledRoute | null): RouteMatch {
  const { sole } = entry;
  if (sole !== null) return { entry, target: sole, pinned: false, bucket: -1, freshBucket: false, prefix, via, rest };
  const { sticky } = entry.route;
  let kept: number | null = null;
  if (sticky !== null) {
    const value = valueOf(head.forward, sticky.by === 'header' ? sticky.name : 'cookie');
    if (value !== undefined) kept = sticky.by === 'header' ? bucketOf(value) : bucketOfCookie(value, sticky.name);
  }
  const bucket = kept ?? randomBucket();
  const freshBucket = kept === null && sticky?.by === 'cookie';
  return { entry, target: targetOf(entry.shares, bucket), pinned: false, bucket, freshBucket, prefix, via, rest };
}

/** The revisions whose waiters are to ask again: they had a share and have none, or are not kept any more. */
function lostShares(before: Route, after: Route | undefined): string[] {
  const lost = (target: RouteTarget): boolean => {
    const now = after?.targets.find((one) => one.revision === target.revision);
    return now === undefined || (target.percent > 0 && now.percent === 0);
  };
  return before.targets.filter(lost).map((target) => target.revision);
}
