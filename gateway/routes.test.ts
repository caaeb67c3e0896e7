import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Route } from '#contract/link.ts';
import { functionPath, LABEL_PATTERN } from '#contract/names.ts';
import { isReserved, RouteTable } from './routes.ts';

const route = (namespace: string, name: string, number = 1): Route => ({
  namespace,
  name,
  revision: `${namespace}/${name}@${number}`,
  timeoutMs: 1_000,
  maxSlots: 10,
});

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
    expect(routes.match(url)).toMatchObject({ entry: { prefix: '/hello', route: { revision: 'default/hello@1' } }, rest });
  });

  it.each([
    ['/@team/hello', '/'],
    ['/@team/hello/x', '/x'],
    ['/@team/hello?y', '/?y'],
  ])('%s goes to the namespace as %s', (url, rest) => {
    expect(routes.match(url)).toMatchObject({ entry: { prefix: '/@team/hello', route: { revision: 'team/hello@4' } }, rest });
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
    expect(routes.match(url)).toBeNull();
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
            const found = all.match(`${functionPath(namespace, name)}/${tail}`);
            expect(found?.entry.route.revision).toBe(`${namespace}/${name}@1`);
            expect(found?.rest).toBe(`/${tail}`);
          }
        },
      ),
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
    ).toMatchObject([
      { from: { revision: 'default/a@1' }, to: { revision: 'default/a@2' } },
      { from: { revision: 'default/b@1' }, to: null },
    ]);
    expect(routes.match('/b')).toBeNull();
    expect(routes.change(3, [{ ...route('default', 'a', 2), timeoutMs: 5 }], [])).toEqual([]);
    expect(routes.match('/a')?.entry.route.timeoutMs).toBe(5);
    expect(routes.replace(9, [route('default', 'a', 3)]).map((change) => [change.from.name, change.to?.revision])).toEqual([
      ['a', 'default/a@3'],
      ['c', undefined],
    ]);
    expect(routes.version).toBe(9);
  });
});

describe('isReserved', () => {
  it.each(['/.fn/init', '/.fn/', '/.fn', '/.fn?x'])('%s is never forwarded', (rest) => expect(isReserved(rest)).toBe(true));
  it.each(['/.fnord', '/x/.fn/init', '/', '/.well-known/x'])("%s is the function's", (rest) => expect(isReserved(rest)).toBe(false));
});
