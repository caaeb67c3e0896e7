/** Programs of runtime images, as files of this machine: fetched or built as for the image, once per version. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { RUNTIMES } from '../../runtime-images/builder/runtimes.ts';
import { CACHE_HOME, TEST_CACHE } from './cache.ts';
import { ROOT } from './root.ts';

/** Path of the first program of a runtime: Bun, Deno, the shim of `binary`. */
export async function programOf(runtime: 'bun' | 'deno' | 'binary'): Promise<string> {
  const root = join(ROOT, 'runtime-images');
  const program = RUNTIMES[runtime]!.programs(root)[0]!;
  const path = join(TEST_CACHE, `${runtime}-${createHash('sha256').update(program.identity).digest('hex').slice(0, 16)}`);
  if (existsSync(path)) return path;
  await mkdir(TEST_CACHE, { recursive: true });
  const work = await mkdtemp(join(TEST_CACHE, 'work-'));
  try {
    const say = (line: string): void => void process.stderr.write(`${line}\n`);
    const file = await program.fetch({ root, cacheDir: join(CACHE_HOME, 'fn'), work, say });
    await copyFile(file, join(work, 'copy'));
    await rename(join(work, 'copy'), path);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return path;
}
