/** Runtime images that a suite needs beside node's: built where they are missing. */
import { join } from 'node:path';
import { execa } from 'execa';
import { z } from 'zod';
import { CACHE_HOME } from './cache.ts';
import { ROOT } from './root.ts';

/** The Go compiler, Bun and Deno are fetched the first time. */
export const BUILD_TIMEOUT_MS = 300_000;

/** Returns the images' tags, by runtime. */
export async function buildRuntimes(...names: string[]): Promise<Record<string, string>> {
  const flags = names.flatMap((name) => ['--runtime', name]);
  const { stdout } = await execa(process.execPath, [join(ROOT, 'runtime-images', 'build.ts'), '--json', ...flags], {
    cwd: ROOT,
    timeout: BUILD_TIMEOUT_MS,
    env: { XDG_CACHE_HOME: CACHE_HOME },
  });
  return z.record(z.string(), z.string()).parse(JSON.parse(stdout));
}

/** Tag of node's image. */
export async function nodeImage(): Promise<string> {
  return (await buildRuntimes('node')).node!;
}
