import { describe, expect, it } from 'vitest';
import { FunctionAccess, type FunctionAccessInput } from '#contract/access.ts';
import { NamespaceSettings } from '#contract/tenancy.ts';
import { checkRoutes, type RouteOwner } from './routes.ts';

type RouteInput = NonNullable<FunctionAccessInput['routes']>[number];

const owner = (name: string, routes: RouteInput[] = [], namespace = 'default'): RouteOwner => ({
  namespace,
  name,
  access: FunctionAccess.parse({ routes }),
});
const NAMESPACES = [
  { name: 'team', settings: NamespaceSettings.parse({ hosts: ['team.example.com', '*.team.example.com'] }) },
  { name: 'shared', settings: NamespaceSettings.parse({ hosts: ['fn.example.net'] }) },
  { name: 'other', settings: NamespaceSettings.parse({ hosts: ['other.example.com'] }) },
];

function problem(candidate: RouteOwner, others: RouteOwner[] = []): { code: string; detail: string; pointer: string | undefined } | null {
  try {
    checkRoutes(candidate, others, NAMESPACES, ['fn.example.net', '127.0.0.1', '*.apps.corp']);
    return null;
  } catch (error) {
    const { code, message, options } = error as { code: string; message: string; options: { errors?: { pointer: string }[] } };
    return { code, detail: message, pointer: options.errors?.[0]?.pointer };
  }
}

describe('a clash of routes', () => {
  it('is refused, and names both functions and both routes', () => {
    const refused = problem(owner('second', [{ path: '/b' }, { path: '/users/:name' }]), [owner('first', [{ path: '/users/:id' }])]);
    expect(refused?.code).toBe('route-conflict');
    for (const text of ['second', 'first', '/users/:name', '/users/:id']) expect(refused?.detail).toContain(text);
  });

  it('is none with a route of its own, which is being replaced', () => {
    expect(problem(owner('first', [{ path: '/x' }]), [owner('first', [{ path: '/x' }])])).toBeNull();
  });

  it('does not name a function of another namespace', () => {
    const theirs = { ...owner('secret-project', [{ host: 'team.example.com', path: '/private' }], 'other') };
    const refused = problem(owner('mine', [{ host: 'team.example.com', path: '/private' }], 'team'), [theirs]);
    expect(refused).toMatchObject({ code: 'route-conflict', detail: expect.stringContaining('a function of another namespace') });
    expect(refused?.detail).not.toMatch(/secret-project|\bother\b/);
  });

  it.each([
    ['/hello', true],
    ['/hello/*', true],
    ['/hello/deeper', true],
    ['/hello@7', true],
    ['/hello@x', false],
    ['/helloo', false],
    ['/:any/deeper', false],
    ['/*', false],
  ])('with the path of a function: a route for %s takes it away: %s', (path, taken) => {
    const expected = taken ? 'route-conflict' : undefined;
    // Whichever comes second is refused.
    expect(problem(owner('greedy', [{ path }]), [owner('hello')])?.code).toBe(expected);
    expect(problem(owner('hello'), [owner('greedy', [{ path }])])?.code).toBe(expected);
  });

  it('with the path of a function is none on a host of its own, nor where that function is of another namespace', () => {
    expect(problem(owner('site', [{ host: 'www.example.com', path: '/hello' }]), [owner('hello')])).toBeNull();
    expect(problem(owner('greedy', [{ path: '/hello' }]), [owner('hello', [], 'team')])).toBeNull();
    expect(problem(owner('hello', [], 'team'), [owner('greedy', [{ path: '/hello' }])])).toBeNull();
  });
});

describe('a route by itself', () => {
  it.each<[string, RouteInput[], string]>([
    ['twice the same', [{ path: '/a/:x' }, { path: '/a/:y' }], '/access/routes/1'],
    ['the path that it has already', [{ path: '/x' }, { path: '/f/deeper' }], '/access/routes/1'],
    ['the path of a namespace', [{ path: '/@team/x' }], '/access/routes/0'],
    ['a prefix that is not its own', [{ path: '/api/users', stripPrefix: '/apis' }], '/access/routes/0'],
    ['a prefix longer than its path', [{ path: '/api', stripPrefix: '/api/users' }], '/access/routes/0'],
    ['a prefix in place of a name', [{ path: '/:x/users', stripPrefix: '/x' }], '/access/routes/0'],
  ])('%s is invalid', (_what, routes, pointer) => {
    expect(problem(owner('f', routes))).toMatchObject({ code: 'invalid', pointer });
  });

  it('may strip what it begins with', () => {
    expect(problem(owner('f', [{ path: '/api/*', stripPrefix: '/api' }]))).toBeNull();
  });
});

describe('a host', () => {
  it.each<[string, string, string | undefined, boolean]>([
    ['that the namespace lists', 'team', 'team.example.com', true],
    ['that its pattern holds', 'team', 'a.team.example.com', true],
    ['that is its pattern', 'team', '*.team.example.com', true],
    ['that its pattern does not hold', 'team', 'a.b.team.example.com', false],
    ['of another namespace', 'team', 'other.example.com', false],
    ['of nobody', 'team', 'www.example.com', false],
    ['of nobody, for default', 'default', 'www.example.com', true],
    ['of another namespace, for default', 'default', 'a.team.example.com', false],
    // There the route would go before all other functions' URLs.
    ['of the platform itself, for default', 'default', 'fn.example.net', false],
    ['that stands for that of the platform, for default', 'default', '*.example.net', false],
    ['of a pattern of the platform’s, for default', 'default', 'a.apps.corp', false],
    ['that is a pattern of the platform’s, for default', 'default', '*.apps.corp', false],
    ['that is an address, for default', 'default', '192.0.2.7', false],
    ['localhost, for default', 'default', 'localhost', false],
    ['of the platform itself that was given to it', 'shared', 'fn.example.net', true],
    ['that is none, for default', 'default', undefined, true],
    ['that is none', 'team', undefined, false],
    ['for a namespace that was never set', 'new', 'www.example.com', false],
  ])('%s (%s, %s): allowed %s', (_what, namespace, host, allowed) => {
    const route = host === undefined ? { path: '/x' } : { host, path: '/x' };
    const refused = problem(owner('f', [route], namespace));
    expect(refused?.code).toBe(allowed ? undefined : 'forbidden');
    if (!allowed) expect(refused?.pointer).toBe('/access/routes/0/host');
  });

  it('of another namespace is refused without a word whose it is', () => {
    expect(problem(owner('f', [{ host: 'team.example.com', path: '/' }]))?.detail).not.toMatch(/\bteam\b(?!\.example)/);
  });
});
