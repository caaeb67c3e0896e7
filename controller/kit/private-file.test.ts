import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensurePrivateFile, isPrivate, readPrivateFile } from './private-file.ts';

let folder: string;
beforeEach(async () => (folder = await mkdtemp(join(tmpdir(), 'fn-private-'))));
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('a private file', () => {
  it.each([
    ['ours alone', 0o600, 1_000, 1_000, true],
    ['ours, open to our group', 0o640, 1_000, 1_000, false],
    ["root's, open to our group, as a mounted Secret", 0o440, 0, 1_000, true],
    ["root's, which our group could write", 0o460, 0, 1_000, false],
    ["root's, open to all", 0o444, 0, 1_000, false],
    ["root's, open to a group, for root", 0o440, 0, 0, false],
    ["another user's", 0o600, 1_001, 1_000, false],
    ["another user's, open to a group", 0o440, 1_001, 1_000, false],
  ])('that is %s', (_name, mode, uid, ours, expected) => {
    expect(isPrivate({ mode: 0o100000 | mode, uid }, ours)).toBe(expected);
  });

  it('is read through links, as a mounted Secret has them', async () => {
    await mkdir(join(folder, '..2026'));
    await writeFile(join(folder, '..2026/token'), 'x', { mode: 0o400 });
    await symlink('..2026', join(folder, '..data'));
    await symlink('..data/token', join(folder, 'token'));
    expect(await readPrivateFile({ path: join(folder, 'token'), what: 'token', advice: 'wait' })).toEqual(Buffer.from('x'));
  });

  it('that cannot be made says so, as a fault of the disk and not of fn, and leaves nothing', async () => {
    // Its own name fits, that of the file which becomes it does not: an error of the file system for root, too.
    const path = join(folder, 'k'.repeat(250));
    await expect(ensurePrivateFile({ path, what: 'key', advice: 'restore it' }, () => 'x')).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringMatching(/^The key \S+ cannot be made \(ENAMETOOLONG/),
    });
    expect(await readdir(folder)).toEqual([]);
  });
});
