import { describe, expect, it } from 'vitest';
import { readConfig } from './config.ts';

const NEEDED = { FN_HOME: '/home', FN_DRIVER: 'process', FN_PUBLIC_URL: 'http://localhost:8080' };
const hosts = (FN_PUBLIC_HOSTS?: string) =>
  readConfig({ ...NEEDED, ...(FN_PUBLIC_HOSTS === undefined ? {} : { FN_PUBLIC_HOSTS }) }).FN_PUBLIC_HOSTS;

describe('FN_PUBLIC_HOSTS', () => {
  it.each([
    [undefined, []],
    ['', []],
    ['gateway.corp', ['gateway.corp']],
    [' Gateway.Corp, *.apps.corp ,', ['gateway.corp', '*.apps.corp']],
  ])('%j is %j', (text, expected) => expect(hosts(text)).toEqual(expected));

  it.each(['http://gateway.corp', 'gateway.corp:8080', 'a b', '*'])('%j is no list of hosts', (text) => {
    expect(() => hosts(text)).toThrow(/FN_PUBLIC_HOSTS.*must be a host name/);
  });
});
