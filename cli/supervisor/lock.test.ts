import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { identify } from '../process-identity.ts';
import { acquireLock, lockOwner } from './lock.ts';

describe('the lock of a home', () => {
  it('is held by one, and given back', () => {
    const path = join(temporaryFolder(onTestFinished), 'lock');
    const release = acquireLock(path);
    expect(release).not.toBeNull();
    expect(acquireLock(path)).toBeNull();
    expect(lockOwner(path)).toEqual(identify(process.pid));
    release?.();
    expect(lockOwner(path)).toBeNull();
    expect(readdirSync(join(path, '..'))).toEqual([]);
  });

  it.each([
    ['a process that is gone', JSON.stringify({ pid: 2 ** 22 + 1, startTime: 'x:1' })],
    ['another process that has its pid now', JSON.stringify({ pid: process.pid, startTime: 'another:1' })],
    ['nobody that can be read', '{"pid":'],
  ])('left by %s is taken', (_, text) => {
    const folder = temporaryFolder(onTestFinished);
    const path = join(folder, 'lock');
    writeFileSync(path, text);
    const release = acquireLock(path);
    expect(release).not.toBeNull();
    expect(readdirSync(folder)).toEqual(['lock']);
    release?.();
  });
});
