import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { newSecret } from '#kit/ids.ts';
import { ensureToken, readToken } from './home-token.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-token-'));
  path = join(folder, 'token');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('ensureToken', () => {
  it('makes 256 random bits that only the owner can read, once', async () => {
    const token = await ensureToken(path);
    expect(Buffer.from(token, 'base64url')).toHaveLength(32);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await ensureToken(path)).toBe(token);
    expect(await readFile(path, 'utf8')).toBe(`${token}\n`);
    expect(await readdir(folder)).toEqual(['token']);
  });

  it('of two that begin at once, both use the same', async () => {
    const tokens = await Promise.all(Array.from({ length: 10 }, () => ensureToken(path)));
    expect(new Set(tokens).size).toBe(1);
    expect(await readdir(folder)).toEqual(['token']);
  });

  it.each<[string, () => Promise<void>, RegExp]>([
    [
      'that others can read',
      async () => {
        await writeFile(path, newSecret());
        await chmod(path, 0o640);
      },
      /read by others/,
    ],
    ['that is empty', () => writeFile(path, '', { mode: 0o600 }), /does not hold a token/],
    ['that is short', () => writeFile(path, 'secret', { mode: 0o600 }), /does not hold a token/],
    [
      'that is a link to one that others can read',
      async () => {
        await writeFile(`${path}2`, newSecret(), { mode: 0o644 });
        await symlink(`${path}2`, path);
      },
      /read by others/,
    ],
    [
      'that is a folder',
      async () => {
        await mkdir(path);
      },
      /not a regular file/,
    ],
  ])('a file %s is refused, and says what to do', async (_name, prepare, words) => {
    await prepare();
    await expect(ensureToken(path)).rejects.toMatchObject({ code: 'store-unavailable', message: expect.stringMatching(words) });
    await expect(ensureToken(path)).rejects.toThrow(/delete it/);
  });
});

describe('readToken', () => {
  it('reads a token that was made elsewhere, through links as a mounted Secret has them', async () => {
    const token = 'A1'.repeat(32);
    await writeFile(`${path}2`, `${token}\n`, { mode: 0o600 });
    await symlink(`${path}2`, path);
    expect(await readToken(path)).toBe(token);
  });

  it('makes none, and takes none that is short or could have been read by others', async () => {
    await expect(readToken(path)).rejects.toThrow(/is not there: FN_API_TOKEN_FILE names a file of/);
    expect(await readdir(folder)).toEqual([]);
    await writeFile(path, 'short', { mode: 0o600 });
    await expect(readToken(path)).rejects.toThrow(/does not hold a token/);
    await writeFile(path, newSecret());
    await chmod(path, 0o604);
    await expect(readToken(path)).rejects.toThrow(/read by others/);
  });
});
