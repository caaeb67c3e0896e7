/**
 * Flask and FastAPI as Debian has them, unpacked into a folder that a test puts beside its function:
 * there is no package index where these tests run. Downloaded once, by the machine's own apt.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';

const PACKAGES = {
  flask: ['flask', 'werkzeug', 'jinja2', 'itsdangerous', 'click', 'markupsafe', 'blinker', 'colorama'],
  fastapi: ['fastapi', 'starlette', 'pydantic', 'anyio', 'sniffio', 'idna', 'typing-extensions'],
} as const;

const DOWNLOAD_TIMEOUT_MS = 120_000;

/** Copies a framework and all that it needs into `folder`/vendor. */
export async function vendor(framework: keyof typeof PACKAGES, folder: string): Promise<void> {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'fn-test');
  const place = join(cache, `python-${framework}-1`);
  if (!existsSync(place)) await download(PACKAGES[framework], cache, place);
  cpSync(place, join(folder, 'vendor'), { recursive: true });
}

async function download(packages: readonly string[], cache: string, place: string): Promise<void> {
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, 'download-'));
  try {
    const names = packages.map((name) => `python3-${name}`);
    await execa('apt-get', ['--quiet', '-o', 'APT::Sandbox::User=root', 'download', ...names], { cwd: work, timeout: DOWNLOAD_TIMEOUT_MS });
    for (const deb of readdirSync(work).filter((name) => name.endsWith('.deb')))
      await execa('dpkg-deb', ['-x', deb, 'root'], { cwd: work });
    // By rename, so that a download that was cut off is not taken for one that is whole.
    if (!existsSync(place)) renameSync(join(work, 'root', 'usr', 'lib', 'python3', 'dist-packages'), place);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
