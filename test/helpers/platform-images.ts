/** The images that fn itself runs in, built where they are missing, of the sources as they are. */
import { join } from 'node:path';
import { execa } from 'execa';
import { z } from 'zod';
import { CACHE_HOME } from './cache.ts';
import { ROOT } from './root.ts';
import { BUILD_TIMEOUT_MS } from './runtime-images.ts';

export type PlatformImage = 'gateway' | 'controller' | 'cli' | 'redis' | 'node' | 'python' | 'bun' | 'deno' | 'binary';

/** Runs the program behind `fn images`; what it says on stdout. */
export async function imagesProgram(args: readonly string[], env: Record<string, string> = {}): Promise<unknown> {
  const { stdout } = await execa(process.execPath, [join(ROOT, 'runtime-images', 'images.ts'), ...args], {
    cwd: ROOT,
    timeout: BUILD_TIMEOUT_MS,
    env: { XDG_CACHE_HOME: CACHE_HOME, ...env },
  });
  return JSON.parse(stdout);
}

/** Tags by name: `{gateway: 'fn/gateway:0.4.0-HASH'}`. */
export async function buildPlatformImages<Name extends PlatformImage>(...names: Name[]): Promise<Record<Name, string>> {
  const built = z.record(z.string(), z.string()).parse(await imagesProgram(['build', ...names.flatMap((name) => ['--name', name])]));
  const entries = names.map((name) => [name, built[name]] as const);
  return Object.fromEntries(entries) as Record<Name, string>;
}
