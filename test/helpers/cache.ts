/** What tests fetch and build once on a machine: below the cache of whoever runs them, whatever HOME a test has. */
import { userInfo } from 'node:os';
import { join } from 'node:path';

/** As $XDG_CACHE_HOME is. */
export const CACHE_HOME = process.env.XDG_CACHE_HOME || join(userInfo().homedir, '.cache');
export const TEST_CACHE = join(CACHE_HOME, 'fn', 'tests');
