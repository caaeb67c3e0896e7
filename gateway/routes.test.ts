import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RouteSpec } from '#contract/access.ts';
import type { Route } from '#contract/link.ts';
import { functionPath, LABEL_PATTERN } from '#contract/names.ts';
import { testRoute } from '../test/helpers/gateway-controller.ts';
import { isReserved, RouteTable } from './routes.ts';

const route = (namespace: string, name: string, number = 1): Route => testRoute(namespace, name, { [number]: 100 });
const spec = (one: Partial<RouteSpec>): RouteSpec => RouteSpec.parse(one);
const HEAD = { host: null, forward: [] };

function table(...routes: Route[]): RouteTable {
  const routesTable = new RouteTable();
  routesTable.replace(1, routes);
  return routesTable;
}

const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/).filter((name) => LABEL_PATTERN.test(name));

describe('RouteTable.match', () => {
  const routes = table(route('default', 'hello'), route('team', 'hello', 4));

  it.each([
    ['/hello', '/'],
    ['/hello/', '/'],
    ['/hello?x=1', '/?x=1'],
    ['/hello/?x=1', '/?x=1'],
    ['/hello/a/../b//c?d=/e', '/a/../b//c?d=/e'],
    ['/hello/%2e%2e/%00', '/%2e%2e/%00'],
    ['/hello//evil.example/x', '//evil.example/x'],
  ])('%s goes to hello as %s', (url, rest) => {
    expect(routes.match(url, 'GET', HEAD)).toMatchObject({
      entry: { prefix: '/hello', route: { name: 'hello' } },
      target: { revision: 'default/hello@1' },
      rest,
    });
  });

  it.each([
    ['/@team/hello', '/'],
    ['/@team/hello/x', '/x'],
    ['/@team/hello?y', '/?y'],
  ])('%s goes to the namespace as %s', (url, rest) => {
    expect(routes.match(url, 'GET', HEAD)).toMatchObject({
      entry: { prefix: '/@team/hello', route: { name: 'hello' } },
      target: { revision: 'team/hello@4' },
      rest,
    });
  });

  it.each([
    '/',
    '//hello',
    '/hell',
    '/hello2',
    '/Hello',
    '/h%65llo',
    '/%68ello',
    '/@team',
    '/@team/',
    '/@team?/hello',
    '/@default/hello',
    '/team/hello',
    '/constructor',
    '/__proto__',
    '/.fn/hello',
  ])('%s is nobody', (url) => {
    expect(routes.match(url, 'GET', HEAD)).toMatchObject({ code: 'function-not-found' });
  });

  it('property: every function is found at its own path with exactly the rest, whatever else there is', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(fc.oneof(fc.constant('default'), label), label), {
          minLength: 1,
          maxLength: 20,
          selector: (pair) => pair.join('/'),
        }),
        fc.stringMatching(/^[!-~]{0,30}$/),
        (functions, tail) => {
          const all = table(...functions.map(([namespace, name]) => route(namespace, name)));
          for (const [namespace, name] of functions) {
            const found = all.match(`${functionPath(namespace, name)}/${tail}`, 'GET', HEAD);
            expect(found).toMatchObject({ target: { revision: `${namespace}/${name}@1` }, rest: `/${tail}` });
          }
        },
      ),
    );
  });
});

describe('the host of a tenant', () => {
  const routes = table(
    testRoute('default', 'open', { 1: 100 }, { routes: [spec({ host: '*.test', path: '/*' }), spec({ path: '/any' })] }),
    testRoute('team', 'site', { 1: 100 }, { routes: [spec({ host: 'team.test', path: '/shop/*' })] }),
    testRoute('team', 'more', { 1: 100 }),
    testRoute('other', 'evil', { 1: 100 }),
    testRoute('other', 'wide', { 1: 100 }, { routes: [spec({ host: '*.other.example', path: '/x' })] }),
  );
  const at = (host: string, path: string) => {
    const found = routes.match(path, 'GET', { host, forward: [] });
    return 'code' in found ? found.code : found.target.revision;
  };

  it.each([
    ['team.test', '/shop/1', 'team/site@1'],
    ['TEAM.test.:80', '/@team/more', 'team/more@1'],
    ['team.test', '/@team/more@1', 'team/more@1'],
    // One origin to browsers: these would have its cookies.
    ['team.test', '/@other/evil', 'function-not-found'],
    ['TEAM.test.:80', '/@other/evil@1', 'function-not-found'],
    ['team.test', '/open', 'function-not-found'],
    ['team.test', '/any', 'function-not-found'],
    ['team.test', '/.well-known/acme-challenge/x', 'function-not-found'],
    ['a.other.example', '/x', 'other/wide@1'],
    ['a.other.example', '/@team/more', 'function-not-found'],
    // Of default, and nobody's.
    ['b.test', '/shop/1', 'default/open@1'],
    ['127.0.0.1', '/@other/evil', 'other/evil@1'],
    ['127.0.0.1', '/any', 'default/open@1'],
  ])('%s%s: %s', (host, path, revision) => expect(at(host, path)).toBe(revision));
});

describe('RouteTable.match with routes', () => {
  const routes = table(
    testRoute(
      'default',
      'a',
      { 1: 50, 2: 50 },
      { routes: [spec({ host: '*.test', path: '/x/:y/*', stripPrefix: '/x' }), spec({ path: '/p/*' })] },
    ),
    testRoute(
      'team',
      'a',
      { 3: 100 },
      { routes: [spec({ host: 'a.test', methods: ['GET'] })], sticky: { by: 'cookie', name: 'c', maxAgeSeconds: 9 } },
    ),
  );

  it('property: whatever comes, it is a function with a rest of the path, or a miss that says why', () => {
    const piece = fc.constantFrom(
      '/',
      'a',
      '@',
      '@team',
      '@7',
      '@1',
      'x',
      'p',
      '?',
      '..',
      '%2f',
      '\u00ff',
      ':',
      '*',
      '.fn',
      '#',
      '__proto__',
    );
    const url = fc.array(piece, { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`);
    const host = fc.oneof(fc.constantFrom('a.test', 'b.test', 'A.test.:80', '[::1]:9', '.test', '', ':', '..'), fc.string());
    const cookie = fc.oneof(fc.constantFrom('c=1', 'c=;c=2', 'c'), fc.string());
    fc.assert(
      fc.property(url, fc.option(host), fc.constantFrom('GET', 'POST', 'OPTIONS', 'X'), cookie, (target, name, method, text) => {
        const found = routes.match(target, method, { host: name, forward: ['cookie', text] });
        if ('code' in found) {
          expect(found.code).toMatch(/^(function-not-found|revision-not-found|method-not-allowed)$/);
          expect(found.allow === undefined).toBe(found.code !== 'method-not-allowed');
          return;
        }
        expect(found.rest[0]).toBe('/');
        // What is taken off and what is left are the URL, but for the slash that a bare name lacks.
        const whole = found.prefix + found.rest;
        expect([whole, whole.replace(`${found.prefix}/`, found.prefix)]).toContain(target);
        expect(found.entry.targets).toContain(found.target);
        expect(routes.again(found)).toEqual(found);
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('RouteTable changes', () => {
  it('is not ready before the first snapshot', () => {
    const routes = new RouteTable();
    expect(routes.ready).toBe(false);
    routes.replace(7, []);
    expect(routes.ready).toBe(true);
  });

  it('reports what is routed elsewhere or nowhere, and only that', () => {
    const routes = table(route('default', 'a'), route('default', 'b'));
    expect(
      routes.change(
        2,
        [route('default', 'a', 2), route('default', 'c')],
        [
          { namespace: 'default', name: 'b' },
          { namespace: 'x', name: 'y' },
        ],
      ),
    ).toEqual(['default/a@1', 'default/b@1']);
    expect(routes.match('/b', 'GET', HEAD)).toMatchObject({ code: 'function-not-found' });
    expect(routes.change(3, [testRoute('default', 'a', { 2: 100 }, { timeoutMs: 5 })], [])).toEqual([]);
    expect(routes.match('/a', 'GET', HEAD)).toMatchObject({ target: { timeoutMs: 5 } });
    expect(routes.replace(9, [route('default', 'a', 3)])).toEqual(['default/a@2', 'default/c@1']);
    expect(routes.version).toBe(9);
  });

  it('a revision that keeps a share keeps its requests; one that lost it, or is gone, does not', () => {
    const routes = table(testRoute('default', 'a', { 1: 50, 2: 50, 3: 0 }));
    expect(routes.change(2, [testRoute('default', 'a', { 1: 99, 2: 1, 3: 0 })], [])).toEqual([]);
    expect(routes.change(3, [testRoute('default', 'a', { 1: 0, 2: 100, 3: 0 })], [])).toEqual(['default/a@1']);
    expect(routes.change(4, [testRoute('default', 'a', { 1: 0, 2: 100 })], [])).toEqual(['default/a@3']);
  });
});

describe('isReserved', () => {
  it.each(['/.fn/init', '/.fn/', '/.fn', '/.fn?x'])('%s is never forwarded', (rest) => expect(isReserved(rest)).toBe(true));
  it.each(['/.fnord', '/x/.fn/init', '/', '/.well-known/x'])("%s is the function's", (rest) => expect(isReserved(rest)).toBe(false));
});
