import { describe, expect, it } from 'vitest';
import { python } from '../python/runtime.ts';
import { FORBIDDEN_NAMES, isKept } from './definition.ts';
import { refuseForbidden } from './rootfs.ts';

describe('what is kept of the packages', () => {
  it.each([
    'lib/x86_64-linux-gnu/libc.so.6',
    'lib64/ld-linux-x86-64.so.2',
    'usr/lib/x86_64-linux-gnu/libstdc++.so.6',
    'usr/lib/aarch64-linux-gnu/libc.so.6',
    'usr/share/zoneinfo/Europe/Berlin',
    'etc/os-release',
    'usr/share/doc/libc6/copyright',
  ])('%s is', (path) => {
    expect(isKept(path)).toBe(true);
  });

  it.each([
    'bin/sh',
    'usr/bin/ldd',
    'usr/sbin/zic',
    'var/lib/dpkg/status',
    'usr/share/doc/libc6/NEWS.Debian.gz',
    'usr/share/man/man1/ldd.1.gz',
    'usr/share/zoneinfo/right/UTC',
    'usr/lib/x86_64-linux-gnu/gconv/UTF-7.so',
    'etc/shadow',
  ])('%s is not', (path) => {
    expect(isKept(path)).toBe(false);
  });

  it('no name of a shell or a package manager passes', () => {
    for (const path of ['bin/sh', 'usr/bin/bash', 'usr/bin/dpkg', 'usr/bin/apt-get', 'usr/bin/perl']) expect(path).toMatch(FORBIDDEN_NAMES);
    expect('usr/local/bin/node').not.toMatch(FORBIDDEN_NAMES);
  });

  it('of a runtime’s packages, what the runtime is for, and in its image alone', () => {
    expect(isKept('usr/bin/python3.11')).toBe(false);
    expect(isKept('usr/bin/python3.11', python)).toBe(true);
    expect(isKept('usr/lib/python3.11/json/__init__.py', python)).toBe(true);
    expect(isKept('usr/lib/python3.11/idlelib/run.py', python)).toBe(false);
    expect(isKept('usr/bin/openssl', python)).toBe(false);
    const link = { type: 'symlink', target: 'python3.11' } as const;
    expect(() => refuseForbidden(new Map([['usr/bin/python3', link]]), null)).toThrow('must not be in a runtime image: usr/bin/python3');
    expect(() => refuseForbidden(new Map([['usr/bin/python3', link]]), python.allowed)).not.toThrow();
    expect(() => refuseForbidden(new Map([['usr/bin/sh', link]]), python.allowed)).toThrow('usr/bin/sh');
  });
});
