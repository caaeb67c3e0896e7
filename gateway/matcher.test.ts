import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HttpMethod, RouteSpec } from '#contract/access.ts';
import { clash, compareRoutes, hostMatches, methodMatches, pathMatches, pathSegments } from '#contract/route-order.ts';
import { hostName, Matcher } from './matcher.ts';

type Spec = Partial<RouteSpec> & { path: string };

/** The key of the route that a request takes, tried as the gateway does: its host's, then any host's. */
function taken(specs: readonly Spec[], host: string, path: string, method = 'GET'): { key: string | null; allow: string[] } {
  const matcher = new Matcher(specs.map((spec, index) => ({ key: String(index), namespace: 'default', spec: RouteSpec.parse(spec) })));
  const allowed = new Set<string>();
  const found = matcher.onHost(host, path, method, allowed) ?? matcher.onAnyHost(path, method, allowed);
  return { key: found?.key ?? null, allow: [...allowed] };
}

describe('hostName', () => {
  it.each([
    ['api.example.com', 'api.example.com'],
    ['API.Example.COM:8080', 'api.example.com'],
    ['api.example.com.', 'api.example.com'],
    ['api.example.com.:80', 'api.example.com'],
    ['api.example.com:', 'api.example.com'],
    ['localhost', 'localhost'],
    ['127.0.0.1:80', '127.0.0.1'],
    ['[::1]:80', null],
    ['[::1]', null],
    ['', null],
    [':80', null],
    ['.', null],
  ])('%j is %j', (header, host) => expect(hostName(header)).toBe(host));
});

describe('precedence', () => {
  const api: Spec = { host: 'api.test', path: '/*' };
  const wild: Spec = { host: '*.test', path: '/*' };
  it.each<[string, Spec[], [string, string, string?], string | null]>([
    ['a host before any', [{ path: '/*' }, api], ['api.test', '/x'], '1'],
    ['the exact host before *.', [wild, api], ['api.test', '/x'], '1'],
    ['*. where no exact one', [wild, api], ['other.test', '/x'], '0'],
    ['*. takes one label only', [wild], ['a.b.test', '/x'], null],
    ['*. takes no bare domain', [wild], ['test', '/x'], null],
    ['an exact host without that path leaves it to *.', [{ host: 'api.test', path: '/a' }, wild], ['api.test', '/b'], '1'],
    ['port and case of the host do not matter', [api], ['API.TEST:8443', '/x'], '0'],
    ['a literal before a name', [{ path: '/u/:id' }, { path: '/u/me' }], ['h', '/u/me'], '1'],
    ['a name before *', [{ path: '/u/*' }, { path: '/u/:id' }], ['h', '/u/7'], '1'],
    ['segment by segment from the left', [{ path: '/:a/b/c' }, { path: '/a/*' }], ['h', '/a/b/c'], '1'],
    ['back from a literal that led nowhere', [{ path: '/a/b/x' }, { path: '/:a/b/c' }], ['h', '/a/b/c'], '1'],
    ['what ends before * that stands for nothing', [{ path: '/a/*' }, { path: '/a' }], ['h', '/a'], '1'],
    ['* stands for nothing, too', [{ path: '/a/*' }], ['h', '/a'], '0'],
    ['* stands for a last slash', [{ path: '/a/*' }], ['h', '/a/'], '0'],
    ['a slash at the end is a difference', [{ path: '/a' }], ['h', '/a/'], null],
    ['a name takes no empty segment', [{ path: '/a/:b' }], ['h', '/a/'], null],
    ['a name takes one segment', [{ path: '/a/:b' }], ['h', '/a/b/c'], null],
    ['nothing is decoded', [{ path: '/a/b' }], ['h', '/a%2Fb'], null],
    ['nothing is normalised', [{ path: '/b' }], ['h', '/a/../b'], null],
    ['bytes, not letters', [{ path: '/A' }], ['h', '/a'], null],
    ['empty segments count', [{ path: '/a/b' }], ['h', '/a//b'], null],
    ['the root', [{ path: '/' }], ['h', '/'], '0'],
    ['the root by *', [{ path: '/*' }], ['h', '/'], '0'],
    ['methods before none', [{ path: '/a' }, { path: '/a', methods: ['POST'] }], ['h', '/a', 'POST'], '1'],
    ['another method goes on', [{ path: '/a' }, { path: '/a', methods: ['POST'] }], ['h', '/a', 'GET'], '0'],
    ['and further down', [{ path: '/:x' }, { path: '/a', methods: ['POST'] }], ['h', '/a', 'GET'], '0'],
    ['GET brings HEAD', [{ path: '/a', methods: ['GET'] }], ['h', '/a', 'HEAD'], '0'],
    ['a key of every object is no literal', [{ path: '/a' }], ['h', '/__proto__'], null],
  ])('%s', (_name, specs, [host, path, method], key) => expect(taken(specs, host, path, method).key).toBe(key));

  it('gathers what another method would find', () => {
    const specs: Spec[] = [
      { path: '/a', methods: ['GET'] },
      { path: '/a', methods: ['PUT', 'DELETE'] },
      { path: '/:x', methods: ['PATCH'] },
    ];
    expect(taken(specs, 'h', '/a', 'POST')).toEqual({ key: null, allow: ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH'] });
    expect(taken(specs, 'h', '/none/such', 'POST')).toEqual({ key: null, allow: [] });
  });

  it('ten thousand routes and a path of a thousand segments are no trouble', () => {
    const specs = Array.from({ length: 10_000 }, (_, index) => ({ path: `/${['x', ':a'][index % 2]}/:b/${index}/*` }));
    expect(taken(specs, 'h', `/x${'/y'.repeat(1_000)}`).key).toBeNull();
    expect(taken(specs, 'h', '/x/y/4711/z').key).toBe('4711');
  });
});

describe('property', () => {
  const word = fc.constantFrom('a', 'b', 'c');
  const segment = fc.oneof(word, fc.constantFrom(':x', ':y'));
  const pathPattern = fc
    .tuple(fc.array(segment, { maxLength: 3 }), fc.constantFrom('', '*', '/'))
    .map(([segments, end]) => `/${[...segments, ...(end === '' ? [] : [end === '*' ? '*' : ''])].join('/')}`)
    .filter((path) => RouteSpec.safeParse({ path }).success);
  const spec: fc.Arbitrary<RouteSpec> = fc
    .record(
      {
        host: fc.constantFrom('a.test', 'b.test', '*.test', 'test'),
        path: pathPattern,
        methods: fc.uniqueArray(fc.constantFrom(...HttpMethod.options), { minLength: 1, maxLength: 3 }),
      },
      { requiredKeys: ['path'] },
    )
    .map((one) => RouteSpec.parse(one));
  /** As the controller would let them stand beside each other. */
  const specs = fc
    .array(spec, { maxLength: 12 })
    .map((all) => all.filter((one, index) => !all.slice(0, index).some((other) => clash(one, other))));

  it('the compiled matcher finds what trying all routes in the order of precedence finds', () => {
    fc.assert(
      fc.property(
        specs,
        fc.constantFrom('a.test', 'b.test', 'c.test', 'x.a.test', 'test'),
        fc.array(fc.constantFrom('a', 'b', 'c', 'd', ''), { maxLength: 4 }).map((segments) => `/${segments.join('/')}`),
        fc.constantFrom(...HttpMethod.options),
        (routes, host, path, method) => {
          const naive = routes
            .toSorted(compareRoutes)
            .find(
              (one) =>
                (one.host === undefined || hostMatches(one.host, host)) &&
                pathMatches(pathSegments(one.path), path.slice(1).split('/')) &&
                methodMatches(one.methods, method),
            );
          const { key } = taken(routes, host, path, method);
          expect(key === null ? undefined : routes[Number(key)]).toEqual(naive);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
