/** Which function a URL names. Compared byte by byte as it came: nothing is decoded or normalised. */
import type { Route } from '#contract/link.ts';
import { DEFAULT_NAMESPACE, functionPath } from '#contract/names.ts';
import { RESERVED_PREFIX } from '#contract/runtime.ts';

export interface RouteEntry {
  readonly route: Route;
  /** What the function's URLs begin with: `/NAME` or `/@NS/NAME`. */
  readonly prefix: string;
}

export interface RouteMatch {
  readonly entry: RouteEntry;
  /** What the function gets to see: begins with `/`, query included. */
  readonly rest: string;
}

/** A function whose requests now go elsewhere (or, without `to`, nowhere). */
export interface Rerouted {
  from: Route;
  to: Route | null;
}

const SLASH = 47;
const QUERY = 63;
const AT = 64;

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

  /** Takes the place of all routes. Returns those that changed. */
  replace(version: number, routes: readonly Route[]): Rerouted[] {
    const before = this.#entries;
    this.#entries = new Map();
    this.#version = version;
    for (const route of routes) this.#put(route);
    const changed: Rerouted[] = [];
    for (const [key, { route }] of before) {
      const to = this.#entries.get(key)?.route ?? null;
      if (to?.revision !== route.revision) changed.push({ from: route, to });
    }
    return changed;
  }

  /** Applies a change. Returns the routes that were there and are different now. */
  change(version: number, set: readonly Route[], remove: readonly { namespace: string; name: string }[]): Rerouted[] {
    this.#version = version;
    const changed: Rerouted[] = [];
    for (const route of set) {
      const before = this.#put(route);
      if (before && before.revision !== route.revision) changed.push({ from: before, to: route });
    }
    for (const { namespace, name } of remove) {
      const key = keyOf(namespace, name);
      const before = this.#entries.get(key);
      if (before && this.#entries.delete(key)) changed.push({ from: before.route, to: null });
    }
    return changed;
  }

  #put(route: Route): Route | undefined {
    const key = keyOf(route.namespace, route.name);
    const before = this.#entries.get(key)?.route;
    this.#entries.set(key, { route, prefix: functionPath(route.namespace, route.name) });
    return before;
  }

  find(namespace: string, name: string): RouteEntry | undefined {
    return this.#entries.get(keyOf(namespace, name));
  }

  /** The function that an origin-form target (`/hello/a?b`) names, or null. */
  match(url: string): RouteMatch | null {
    let end = segmentEnd(url, 1);
    if (url.charCodeAt(1) === AT) {
      if (url.charCodeAt(end) !== SLASH) return null;
      end = segmentEnd(url, end + 1);
    }
    const entry = this.#entries.get(url.slice(1, end));
    if (entry === undefined) return null;
    if (end === url.length) return { entry, rest: '/' };
    return { entry, rest: url.charCodeAt(end) === QUERY ? `/${url.slice(end)}` : url.slice(end) };
  }
}

function keyOf(namespace: string, name: string): string {
  return namespace === DEFAULT_NAMESPACE ? name : `@${namespace}/${name}`;
}
