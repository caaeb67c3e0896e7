import { describe, expect, it } from 'vitest';
import { resolverFor } from './resolve.ts';

const names: Record<string, string[]> = {
  'public.test': ['93.184.216.34'],
  'private.test': ['10.1.2.3'],
  'both.test': ['10.1.2.3', '93.184.216.34'],
  'metadata.test': ['169.254.169.254', 'fd00:ec2::254'],
};
const lookUp = (host: string) => Promise.resolve((names[host] ?? []).map((address) => ({ address })));
const dial = async (networks: string[] | null, host: string) => {
  try {
    return (await resolverFor(networks, lookUp)(host, 80)).host;
  } catch (error) {
    return error instanceof Error && 'code' in error ? error.code : error;
  }
};

describe('where a tenant’s events may go', () => {
  it.each([
    ['public.test', '93.184.216.34'],
    ['private.test', 'forbidden'],
    ['both.test', '93.184.216.34'],
    ['metadata.test', 'forbidden'],
    ['127.0.0.1', 'forbidden'],
    ['[::1]', 'forbidden'],
    ['[::ffff:127.0.0.1]', 'forbidden'],
    ['[2606:4700::1]', '2606:4700::1'],
    ['nowhere.test', 'forbidden'],
  ])('%s: %s', async (host, expected) => {
    expect(await dial([], host)).toBe(expected);
  });

  it('is beside public addresses what its namespace lists, but never link-local ones', async () => {
    expect(await dial(['10.1.0.0/16'], 'private.test')).toBe('10.1.2.3');
    expect(await dial(['10.2.0.0/16'], 'private.test')).toBe('forbidden');
    expect(await dial(['0.0.0.0/0'], 'metadata.test')).toBe('forbidden');
    expect(await dial(['0.0.0.0/0'], '169.254.1.1')).toBe('forbidden');
    expect(await dial(['0.0.0.0/0'], '127.0.0.1')).toBe('127.0.0.1');
  });

  it('is anywhere for the operator', async () => {
    expect(await dial(null, 'private.test')).toBe('10.1.2.3');
    expect(await dial(null, 'metadata.test')).toBe('169.254.169.254');
  });

  it('keeps the name for the certificate', async () => {
    const resolve = resolverFor([], lookUp);
    expect(await resolve('public.test', 443)).toEqual({ host: '93.184.216.34', servername: 'public.test' });
    expect(await resolve('93.184.216.34', 443)).toEqual({ host: '93.184.216.34', servername: undefined });
  });
});
