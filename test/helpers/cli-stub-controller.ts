/** Stands in for controller/main.ts under a supervisor: answers on the control socket, ends when it is told to. */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { homePaths } from '#kit/paths.ts';
import { createStubApi } from './cli-stub-api.ts';

const { FN_HOME: home = '', FN_PUBLIC_URL: publicUrl = '' } = process.env;
const paths = homePaths(home);

if (process.argv.includes('--cleanup')) {
  // What it was asked to do can be seen by the test.
  writeFileSync(join(paths.home, 'cleaned-up'), '');
  process.exit(process.env.STUB_CONTROLLER === 'fails-and-cannot-clean-up' ? 1 : 0);
}
if (process.env.STUB_CONTROLLER?.startsWith('fails') === true) {
  process.stderr.write('the store cannot be opened\n');
  process.exit(1);
}
const { server } = createStubApi({ publicUrl, onShutdown: () => setImmediate(() => process.exit(0)) });
// Two may begin at once: whoever is later has the name, and neither finds it taken.
const own = `${paths.controlSocket}.${process.pid}`;
server.listen(own, () => renameSync(own, paths.controlSocket));
process.on('SIGTERM', () => process.exit(0));
