/** Where the sources of images are, for the programs that build them. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** The folder runtime-images: said by the environment where this is bundled, else beside the program. */
export function runtimeImagesDir(ownFolder: string, env: NodeJS.ProcessEnv): string {
  const candidates = [env.FN_RUNTIME_IMAGES_DIR, ownFolder, join(ownFolder, '..', 'runtime-images')];
  for (const folder of candidates) if (folder && existsSync(join(folder, 'node', 'shim.mjs'))) return folder;
  throw new Error('the folder runtime-images is not found: set FN_RUNTIME_IMAGES_DIR to it');
}
