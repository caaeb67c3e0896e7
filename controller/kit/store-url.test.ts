import { describe, expect, it } from 'vitest';
import { chooseStoreUrl, parseStoreUrl, storeUrlToShow } from './store-url.ts';

describe('the address of a store', () => {
  it.each([
    ['sqlite', 'sqlite'],
    ['redis://redis.internal', 'redis://redis.internal:6379/0'],
    ['redis://:s3cret@127.0.0.1:7000/2', 'redis://127.0.0.1:7000/2'],
    ['rediss://fn:s3%40cret@cache.example:6380?name=staging', 'rediss://fn@cache.example:6380/0?name=staging'],
    ['redis://[::1]:6379/0', 'redis://[::1]:6379/0'],
  ])('%s is shown as %s, without its password', (text, shown) => {
    expect(storeUrlToShow(parseStoreUrl(text))).toBe(shown);
    // What is shown names the same place.
    expect(storeUrlToShow(parseStoreUrl(shown))).toBe(shown);
  });

  it('has its parts', () => {
    expect(parseStoreUrl('rediss://fn:a%3Ab%@h:1/15?name=x')).toEqual({
      kind: 'redis',
      host: 'h',
      port: 1,
      tls: true,
      username: 'fn',
      password: 'a%3Ab%',
      db: 15,
      name: 'x',
    });
    expect(parseStoreUrl('redis://fn:a%3Ab@h')).toMatchObject({ password: 'a:b', port: 6_379, db: 0, name: 'main', tls: false });
  });

  it.each([
    ['', /a store is sqlite, redis:/],
    ['postgres://h/db', /a store is sqlite, redis:/],
    ['redis://', /a store is sqlite, redis:/],
    ['redis://:hunter2@h/zero', /number of its database/],
    ['redis://h/0?prefix=a', /no parameter prefix/],
    ['redis://h/0?name=A_B', /lower-case letters/],
  ])('%s is refused, with no password in the words', (text, words) => {
    expect(() => parseStoreUrl(text)).toThrow(words);
    expect(() => parseStoreUrl(text)).not.toThrow(/hunter2/);
  });
});

describe('of what is typed and what is in the environment', () => {
  const secret = 'redis://fn:hunter2@h:1/2';
  it.each<[string | undefined, string | undefined, string]>([
    [undefined, undefined, 'sqlite'],
    [undefined, secret, secret],
    ['redis://h:1', undefined, 'redis://h:1'],
    // The same place: the password goes with it.
    ['redis://h:1/2', secret, secret],
    ['redis://fn@h:1/2', secret, secret],
    // Another place: it does not.
    ['redis://other@h:1/2', secret, 'redis://other@h:1/2'],
    ['redis://h:1/3', secret, 'redis://h:1/3'],
    ['rediss://h:1/2', secret, 'rediss://h:1/2'],
    ['redis://h:1/2?name=x', secret, 'redis://h:1/2?name=x'],
    ['sqlite', secret, 'sqlite'],
  ])('%s and %s: %s', (typed, env, chosen) => expect(chooseStoreUrl(typed, env)).toBe(chosen));
});
