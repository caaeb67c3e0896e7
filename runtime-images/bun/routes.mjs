/** The `routes` of Bun.serve: exact paths, `:name`, and `*` at the end; the most exact one wins. */

/** @type {any} Its types are in no package that is installed here. */
const engine = globalThis;

/** @typedef {{ handler: any, params: Record<string, string> }} Match */

/**
 * Null where no route is meant, or none of its methods.
 * @param {Record<string, any>} routes
 * @param {Request} request
 * @returns {Match | null}
 */
export function matchRoute(routes, request) {
  const path = new URL(request.url).pathname.split('/');
  /** @type {(Match & { rank: string }) | null} */
  let best = null;
  for (const [pattern, route] of Object.entries(routes)) {
    const found = matchPath(pattern.split('/'), path);
    const handler = handlerOf(route, request.method);
    if (found === null || handler === null || (best !== null && best.rank <= found.rank)) continue;
    best = { handler, ...found };
  }
  return best;
}

/**
 * `rank` orders routes: at the first segment where they differ, an exact one comes before `:name` before `*`.
 * @param {string[]} pattern
 * @param {string[]} path
 */
function matchPath(pattern, path) {
  /** @type {Record<string, string>} */
  const params = {};
  let rank = '';
  for (const [index, wanted] of pattern.entries()) {
    if (wanted === '*' && index === pattern.length - 1) return path.length > index ? { params, rank: `${rank}2` } : null;
    const actual = path[index];
    if (actual === undefined) return null;
    if (wanted.startsWith(':') && actual !== '') params[wanted.slice(1)] = decode(actual);
    else if (wanted !== actual) return null;
    rank += wanted.startsWith(':') ? '1' : '0';
  }
  return path.length === pattern.length ? { params, rank } : null;
}

/** @param {string} segment */
function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // a stray percent sign: as it came
  }
}

/** A Response, a function, or one of these by method. @param {any} route @param {string} method */
function handlerOf(route, method) {
  if (typeof route === 'function' || typeof route?.clone === 'function') return route;
  if (typeof route !== 'object' || route === null) return null;
  return route[method] ?? (method === 'HEAD' ? route.GET : null) ?? null;
}

/**
 * Gives the request `params` and `cookies`, and the response the cookies that were set.
 * @param {any} request
 * @param {Record<string, string>} params
 * @param {(request: any) => unknown} call
 */
export async function withCookies(request, params, call) {
  /** @type {any} */
  let cookies = null;
  Object.defineProperties(request, {
    params: { value: params, enumerable: true, configurable: true },
    cookies: { get: () => (cookies ??= new engine.Bun.CookieMap(request.headers.get('cookie') ?? '')), configurable: true },
  });
  const response = /** @type {any} */ (await call(request));
  for (const cookie of cookies?.toSetCookieHeaders() ?? []) response?.headers.append('set-cookie', cookie);
  return response;
}
