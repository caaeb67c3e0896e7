/** The image of the node runtime, built where it is not there yet. */
import { execa } from 'execa';
import { z } from 'zod';
import { ROOT } from '../helpers/root.ts';

/** Building from nothing downloads some 100 MB of packages. */
const BUILD_TIMEOUT_MS = 300_000;

/** Tags by runtime, for the docker driver. */
export async function runtimeImages(): Promise<Record<string, string>> {
  const { stdout } = await execa(process.execPath, ['runtime-images/build.ts', '--json'], { cwd: ROOT, timeout: BUILD_TIMEOUT_MS });
  return z.record(z.string(), z.string()).parse(JSON.parse(stdout));
}
