/**
 * Around a whole run: one folder for the homes of all platforms that tests start, and a sweep at the
 * end, so that a test worker that was killed leaves no platform running.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { homePaths } from '#kit/paths.ts';
import { removeLeftovers } from '../helpers/leaks.ts';

export default function setup(): (() => Promise<void>) | undefined {
  // Each project of the configuration calls this; the first one holds the folder.
  if (process.env.FN_TEST_FOLDER !== undefined) return undefined;
  const folder = mkdtempSync('/tmp/fnt-');
  process.env.FN_TEST_FOLDER = folder;
  return async () => {
    for (const name of existsSync(folder) ? readdirSync(folder) : []) await removeLeftovers(homePaths(join(folder, name)));
    rmSync(folder, { recursive: true, force: true });
  };
}
