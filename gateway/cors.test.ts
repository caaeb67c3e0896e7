import { describe, expect, it } from 'vitest';
import { Cors } from '#contract/access.ts';
import { CorsRules, isPreflight } from './cors.ts';

type Input = Parameters<typeof Cors.parse>[0];
const rules = (cors: Input): CorsRules => new CorsRules(Cors.parse(cors));
function asObject(flat: readonly string[]): Record<string, string> {
  const pairs: [string, string][] = [];
  for (let i = 0; i < flat.length; i += 2) pairs.push([flat[i]!, flat[i + 1]!]);
  expect(new Set(pairs.map(([name]) => name)).size).toBe(pairs.length);
  return Object.fromEntries(pairs);
}
function answer(cors: Input, origin: string | undefined, own: string[] = []): Record<string, string> {
  const flat = [...own];
  rules(cors).apply(flat, origin);
  return asObject(flat);
}

describe('an origin', () => {
  it.each<[string[], string, boolean]>([
    [['https://app.test'], 'https://app.test', true],
    [['https://app.test'], 'http://app.test', false],
    [['https://app.test'], 'https://app.test:8443', false],
    [['https://app.test'], 'https://app.test.evil.test', false],
    [['https://app.test'], 'https://evilapp.test', false],
    [['https://app.test'], 'null', false],
    [['https://app.test:8443'], 'https://app.test:8443', true],
    [['https://*.app.test'], 'https://a.app.test', true],
    [['https://*.app.test'], 'https://app.test', false],
    [['https://*.app.test'], 'https://a.b.app.test', false],
    [['https://*.app.test'], 'https://evil.test/.app.test', false],
    [['https://*.app.test'], 'https://evil.test#.app.test', false],
    [['https://*.app.test'], 'https://user@.app.test', false],
    [['https://*.app.test'], 'https://.app.test', false],
    [['https://*.app.test'], 'https://*.app.test', false],
    [['https://*.app.test'], 'http://a.app.test', false],
    [['https://*.app.test:8443'], 'https://a.app.test:8443', true],
    [['https://a.test', 'https://b.test'], 'https://b.test', true],
  ])('of %j: %s may: %s', (origins, origin, may) => {
    expect(answer({ origins }, origin)).toEqual(may ? { vary: 'Origin', 'access-control-allow-origin': origin } : { vary: 'Origin' });
  });

  it('is anybody with *, also one that is not named: caches keep such answers', () => {
    expect(answer({ origins: ['*'] }, 'https://x.test')).toEqual({ 'access-control-allow-origin': '*' });
    expect(answer({ origins: ['*'] }, undefined)).toEqual({ 'access-control-allow-origin': '*' });
    expect(answer({ origins: ['*'] }, 'null')).toEqual({ 'access-control-allow-origin': '*' });
  });
});

describe('an answer', () => {
  it('has what is configured in place of what the function says', () => {
    const own = ['content-type', 'x', 'access-control-allow-origin', '*', 'access-control-allow-credentials', 'true', 'etag', 'y'];
    expect(answer({ origins: ['https://a.test'], exposeHeaders: ['X-A', 'X-B'], credentials: true }, 'https://a.test', own)).toEqual({
      'content-type': 'x',
      etag: 'y',
      vary: 'Origin',
      'access-control-allow-origin': 'https://a.test',
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': 'X-A, X-B',
    });
  });
});

describe('a preflight', () => {
  const VARY = 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers';
  it('is told what may be sent', () => {
    expect(
      asObject(rules({ origins: ['https://a.test'], methods: ['GET', 'PUT'] }).preflight('https://a.test', 'authorization, X-A')),
    ).toEqual({
      vary: VARY,
      'access-control-allow-origin': 'https://a.test',
      'access-control-allow-methods': 'GET, PUT',
      'access-control-allow-headers': 'authorization, X-A',
      'access-control-max-age': '600',
    });
  });

  it('from elsewhere is told nothing', () => {
    expect(asObject(rules({ origins: ['https://a.test'] }).preflight('https://b.test', 'x-a'))).toEqual({ vary: VARY });
  });

  it.each<[string[], string | undefined, string | undefined]>([
    [['*'], undefined, undefined],
    [['*'], 'x-a, x-b', 'x-a, x-b'],
    [['*'], 'x-a; x-b', undefined],
    [['*', 'X-C'], '\u0000', 'X-C'],
    [['*'], 'x'.repeat(5_000), undefined],
    [['X-A', 'X-B'], 'x-c', 'X-A, X-B'],
    [[], 'x-c', undefined],
  ])('headers %j, asked for %j: %j', (headers, asked, allowed) => {
    const told = asObject(rules({ origins: ['*'], headers, credentials: false }).preflight('https://b.test', asked));
    expect(told['access-control-allow-headers']).toBe(allowed);
  });

  it('is OPTIONS with an origin and a method that is asked for, and nothing else', () => {
    const asked = ['origin', 'https://a.test', 'access-control-request-method', 'PUT'];
    expect(isPreflight('OPTIONS', asked)).toBe(true);
    expect(isPreflight('GET', asked)).toBe(false);
    expect(isPreflight('OPTIONS', asked.slice(0, 2))).toBe(false);
    expect(isPreflight('OPTIONS', asked.slice(2))).toBe(false);
  });
});
