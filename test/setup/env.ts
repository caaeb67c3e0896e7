/**
 * Before each test file: a home of its own, so that no test sees the state of whoever runs it, and
 * none leaves its own there. Temporary files are in the folder of the run, which goes with it. npm keeps its real configuration and cache, which some tests install with.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const realHome = homedir();
if (process.env.FN_TEST_FOLDER !== undefined) process.env.TMPDIR = join(process.env.FN_TEST_FOLDER, 't');
const home = mkdtempSync(join(tmpdir(), 'fn-t-'));

process.env.npm_config_userconfig ??= join(realHome, '.npmrc');
process.env.npm_config_cache ??= join(realHome, '.npm');
process.env.HOME = home;
process.env.FN_HOME = join(home, 'fn');

afterAll(() => {
  process.env.HOME = realHome;
  rmSync(home, { recursive: true, force: true });
});
