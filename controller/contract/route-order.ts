/**
 * Which route a request takes, and which two cannot be told apart: the rules of RouteSpec as code, so
 * that the controller, which refuses clashes, and the gateways, which match, cannot differ.
 */
import type { HttpMethod, RouteSpec } from './access.ts';

export type Segment = { kind: 'literal'; text: string } | { kind: 'name'; name: string } | { kind: 'rest' };

/** `/users/:id/*` → literal, name, rest. A `/` at the end is a last, empty literal, as it is in a path. */
export function pathSegments(pattern: string): Segment[] {
  return pattern
    .slice(1)
    .split('/')
    .map((text) => {
      if (text === '*') return { kind: 'rest' };
      return text.startsWith(':') ? { kind: 'name', name: text.slice(1) } : { kind: 'literal', text };
    });
}

/** A pattern's segments against a path's (`/a/b` → `a`, `b`): `:name` takes one that is not empty, `*` all that are left, or none. */
export function pathMatches(pattern: readonly Segment[], path: readonly string[]): boolean {
  for (const [index, segment] of pattern.entries()) {
    if (segment.kind === 'rest') return true;
    const text = path[index];
    if (text === undefined || (segment.kind === 'name' ? text === '' : text !== segment.text)) return false;
  }
  return path.length === pattern.length;
}

/** Whether a host (lower case, without its port) is that of a pattern; `*.` stands for exactly one label. */
export function hostMatches(pattern: string, host: string): boolean {
  if (!pattern.startsWith('*.')) return pattern === host;
  const dot = host.indexOf('.');
  return dot > 0 && host.slice(dot) === pattern.slice(1);
}

/** Whether a route's methods hold this one; GET brings HEAD along. */
export function methodMatches(methods: readonly HttpMethod[] | undefined, method: string): boolean {
  if (methods === undefined) return true;
  return methods.some((one) => one === method) || (method === 'HEAD' && methods.includes('GET'));
}

const hostRank = (host: string | undefined): number => (host === undefined ? 2 : host.startsWith('*.') ? 1 : 0);
const SEGMENT_RANK = { literal: 0, name: 1, rest: 2 } as const;
const byText = (a: string, b: string): number => (a === b ? 0 : a < b ? -1 : 1);

/** What has ended wins over a `*` that may stand for nothing. */
function compareSegments(a: Segment | undefined, b: Segment | undefined): number {
  if (!a || !b) return a ? 1 : b ? -1 : 0;
  if (a.kind !== b.kind) return SEGMENT_RANK[a.kind] - SEGMENT_RANK[b.kind];
  return a.kind === 'literal' && b.kind === 'literal' ? byText(a.text, b.text) : 0;
}

/**
 * The order of precedence: negative where `a` is tried before `b`. Of all routes that match a request
 * the first one in this order gets it. 0: the same host and path (whatever `:name` is called), and
 * both with methods or both without. Routes that no request can match both are ordered by their text.
 */
export function compareRoutes(a: RouteSpec, b: RouteSpec): number {
  const hosts = hostRank(a.host) - hostRank(b.host) || byText(a.host ?? '', b.host ?? '');
  if (hosts !== 0) return hosts;
  const left = pathSegments(a.path);
  const right = pathSegments(b.path);
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const segments = compareSegments(left[index], right[index]);
    if (segments !== 0) return segments;
  }
  return Number(a.methods === undefined) - Number(b.methods === undefined);
}

/** Whether there is a request that both match and neither wins. */
export function clash(a: RouteSpec, b: RouteSpec): boolean {
  if (compareRoutes(a, b) !== 0) return false;
  const { methods } = b;
  if (a.methods === undefined || methods === undefined) return true;
  const all = (list: readonly HttpMethod[]): HttpMethod[] => (list.includes('GET') ? [...list, 'HEAD'] : [...list]);
  return all(a.methods).some((method) => all(methods).includes(method));
}

/** The function of `default` whose own path a route without a host would take from it: that of its first segment, if it is literal. */
export function shadowed({ host, path }: RouteSpec): string | null {
  const first = host === undefined ? pathSegments(path)[0] : undefined;
  return first?.kind === 'literal' ? first.text.replace(/@\d+$/, '') : null;
}
