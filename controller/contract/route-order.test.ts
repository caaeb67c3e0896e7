import { describe, expect, it } from 'vitest';
import { RouteSpec } from './access.ts';
import { clash, compareRoutes, hostMatches, methodMatches, pathMatches, pathSegments } from './route-order.ts';

/** `GET,POST host/path` */
function route(text: string): RouteSpec {
  const match = /^(?:([A-Z,]+) )?([^/]*)(\/.*)$/.exec(text)!;
  return RouteSpec.parse({
    ...(match[1] ? { methods: match[1].split(',') } : {}),
    ...(match[2] ? { host: match[2] } : {}),
    path: match[3],
  });
}

describe('the order of routes', () => {
  it('is host, exact host, then segments from the left, then methods', () => {
    const order = [
      'GET a.example.com/users/me',
      'a.example.com/users/me',
      'a.example.com/users/:id',
      'a.example.com/*',
      '*.example.com/users/me/mail',
      'GET /users',
      '/users',
      '/users/',
      '/users/me',
      '/users/:id',
      '/users/:id/mail',
      '/users/*',
      '/:what/me',
      '/*',
    ];
    for (const [index, winner] of order.entries()) {
      for (const loser of order.slice(index + 1)) {
        const [a, b] = [route(winner), route(loser)];
        expect(Math.sign(compareRoutes(a, b)), `${winner} before ${loser}`).toBe(-1);
        expect(Math.sign(compareRoutes(b, a)), `${loser} after ${winner}`).toBe(1);
      }
    }
  });

  it.each([
    ['/users/:id', '/users/:name', true],
    ['/users/:id', '/users/me', false],
    ['/users', '/users', true],
    ['/users', '/users/', false],
    ['/users', '/users/*', false],
    ['GET /users', '/users', false],
    ['GET /users', 'POST /users', false],
    ['GET /users', 'HEAD /users', true],
    ['GET,POST /users', 'POST,PUT /users', true],
    ['a.example.com/', '/', false],
    ['a.example.com/', '*.example.com/', false],
    ['*.example.com/*', '*.example.com/*', true],
  ])('%s and %s clash: %s', (a, b, expected) => {
    expect(clash(route(a), route(b))).toBe(expected);
    expect(clash(route(b), route(a))).toBe(expected);
  });
});

describe('what a route matches', () => {
  it.each([
    ['/', '/', true],
    ['/', '/a', false],
    ['/*', '/', true],
    ['/*', '/a/b', true],
    ['/a', '/a', true],
    ['/a', '/a/', false],
    ['/a/', '/a/', true],
    ['/a/*', '/a', true],
    ['/a/*', '/a/', true],
    ['/a/*', '/ab', false],
    ['/a/:x', '/a/b', true],
    ['/a/:x', '/a/', false],
    ['/a/:x', '/a', false],
    ['/a/:x', '/a/b/c', false],
    ['/a/:x/*', '/a/b/c/d', true],
  ])('%s and the path %s: %s', (pattern, path, expected) => {
    expect(pathMatches(pathSegments(pattern), path.slice(1).split('/'))).toBe(expected);
  });

  it('one label for the star of a host, and HEAD for GET', () => {
    expect(hostMatches('*.example.com', 'a.example.com')).toBe(true);
    for (const host of ['example.com', 'a.b.example.com', '.example.com', 'aexample.com'])
      expect(hostMatches('*.example.com', host)).toBe(false);
    expect(hostMatches('example.com', 'example.com')).toBe(true);
    expect(methodMatches(['GET'], 'HEAD')).toBe(true);
    expect(methodMatches(['HEAD'], 'GET')).toBe(false);
    expect(methodMatches(undefined, 'DELETE')).toBe(true);
  });
});
