/** Programs and libraries that a test needs and nobody has to have installed: Debian's, fetched by apt, unpacked into fn's cache. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { TEST_CACHE } from './cache.ts';

const FETCH_TIMEOUT_MS = 120_000;

/** Folder with these packages unpacked into one root; fetched once on a machine. */
export async function debianPackage(...names: string[]): Promise<string> {
  const folder = join(TEST_CACHE, names.join('+'));
  if (existsSync(folder)) return folder;
  mkdirSync(TEST_CACHE, { recursive: true });
  const work = mkdtempSync(join(TEST_CACHE, 'download-'));
  try {
    await download(names, work);
    const files = readdirSync(work).filter((one) => one.endsWith('.deb'));
    if (files.length !== names.length) throw new Error(`apt-get fetched ${files.join(', ')} for ${names.join(', ')}`);
    for (const file of files) await execa('dpkg-deb', ['-x', join(work, file), join(work, 'root')]);
    // By rename, so that what was cut off is not taken for what is whole.
    if (!existsSync(folder)) renameSync(join(work, 'root'), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** Lists that are old, or are not there yet, are fetched anew, which takes root. */
async function download(names: readonly string[], cwd: string): Promise<void> {
  const fetch = () =>
    execa('apt-get', ['download', '--quiet', '-o', 'APT::Sandbox::User=root', ...names], { cwd, timeout: FETCH_TIMEOUT_MS });
  try {
    await fetch();
  } catch (error) {
    if (process.getuid?.() !== 0)
      throw new Error(`apt-get download ${names.join(' ')} failed: sudo apt-get update may help`, { cause: error });
    await execa('apt-get', ['update', '--quiet'], { timeout: FETCH_TIMEOUT_MS });
    await fetch();
  }
}
