import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BASE_PACKAGES } from './definition.ts';
import { lockDrift, lockFor, parseLock, readLock, writeLock, type LockedPackage } from './lock.ts';
import { PLATFORM_IMAGES } from '../platform/images.ts';
import { RUNTIMES } from './runtimes.ts';

const pkg = (name: string, version: string, arch = 'amd64', sha256 = 'a'.repeat(64)): LockedPackage => ({ name, version, arch, sha256 });

describe('packages.lock', () => {
  it('of the project names every package of the base', () => {
    const names = readLock(join(import.meta.dirname, '../base/packages.lock')).map(({ name }) => name);
    expect(new Set(names)).toEqual(new Set(BASE_PACKAGES));
  });

  it.each([...Object.values(RUNTIMES), ...Object.values(PLATFORM_IMAGES)].filter(({ packages }) => packages.length > 0))(
    'of $name names every package of it',
    ({ name, folder, packages }) => {
      const names = readLock(join(import.meta.dirname, '..', folder ?? name, 'packages.lock')).map((one) => one.name);
      expect(new Set(names)).toEqual(new Set(packages));
    },
  );

  it('is written in an order that does not depend on how it came, keeps other architectures, and reads back', () => {
    const folder = mkdtempSync(join(tmpdir(), 'fn-lock-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'packages.lock');
    const arm = pkg('libc6', '2.36', 'arm64');
    writeLock(path, [arm, pkg('libc6', '2.35')], [pkg('tzdata', '2026f', 'all'), pkg('libc6', '2.36-9+deb12u14')], 'amd64');
    expect(readLock(path)).toEqual([pkg('libc6', '2.36-9+deb12u14'), arm, pkg('tzdata', '2026f', 'all')]);
    expect(lockFor(readLock(path), 'arm64', ['libc6'])).toEqual([arm]);
    const before = readFileSync(path, 'utf8');
    writeLock(path, readLock(path), [pkg('libc6', '2.36-9+deb12u14'), pkg('tzdata', '2026f', 'all')], 'amd64');
    expect(readFileSync(path, 'utf8')).toBe(before);
  });

  it('says which line is wrong', () => {
    expect(() => parseLock('# comment\nlibc6 2.36 amd64 nothex\n')).toThrow('packages.lock:2');
  });

  it('tells drift in version, content and presence', () => {
    const locked = [pkg('libc6', '1'), pkg('tzdata', '1', 'all')];
    expect(lockDrift(locked, locked)).toEqual([]);
    expect(lockDrift(locked, [pkg('libc6', '2'), pkg('tzdata', '1', 'all', 'b'.repeat(64)), pkg('new', '1')])).toEqual([
      'libc6 is 2, the lock says 1',
      'tzdata 1 has another digest than the lock says',
      'new 1 is not in the lock',
    ]);
  });
});
