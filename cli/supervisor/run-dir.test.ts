import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { homePaths } from '#kit/paths.ts';
import { makeRunDir } from './run-dir.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fn-run-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** As of a user who is not root, wherever the tests run: below the home. */
const prepare = () => {
  const paths = homePaths(join(folder, 'home'));
  const run = join(folder, 'home', 'run');
  return { ...paths, runDir: run, controlSocket: join(run, 'control', 's'), linkSocket: join(run, 'link', 's') };
};

describe('the home', () => {
  it('of one’s own is used, also where others may look into it', () => {
    mkdirSync(join(folder, 'home'), { mode: 0o755 });
    expect(() => makeRunDir(prepare(), false)).not.toThrow();
  });

  it('in which others may write is refused', () => {
    const paths = prepare();
    chmodSync(paths.home, 0o777);
    expect(() => makeRunDir(paths, false)).toThrow('others may write');
  });

  // Only root can give a folder to somebody else.
  it.runIf(process.getuid?.() === 0)('of another user is refused', () => {
    const paths = prepare();
    chownSync(paths.home, 1_000, 1_000);
    expect(() => makeRunDir(paths, false)).toThrow('belongs to another user (uid 1000)');
  });
});
