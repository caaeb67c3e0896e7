/**
 * Before each test file: a home of its own, so that no test sees the state of whoever runs it, and
 * none leaves its own there. npm keeps its real configuration and cache, which some tests install with.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const realHome = homedir();
const home = mkdtempSync(join(tmpdir(), 'fn-t-'));

process.env.npm_config_userconfig ??= join(realHome, '.npmrc');
process.env.npm_config_cache ??= join(realHome, '.npm');
process.env.HOME = home;
process.env.FN_HOME = join(home, 'fn');

afterAll(() => {
  process.env.HOME = realHome;
  rmSync(home, { recursive: true, force: true });
});
