/** The bundles of fn's programs, as cli/build.ts made them in dist/: of each exactly the files that it loads. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ImageFile } from '../builder/runtime.ts';

/** How a bundle names another file beside it: statically, or by a dynamic import. */
const IMPORT = /(?:\bfrom|\bimport)\s*\(?\s*["']\.\/((?:part-[\w.-]+|telemetry)\.mjs)["']/g;

/**
 * These bundles and, transitively, the parts that they import: dist/ also keeps parts of earlier builds. Below
 * `place` in the image. Throws where one is missing.
 */
export function bundleFiles(dist: string, entries: readonly string[], place: string): ImageFile[] {
  const contents = new Map<string, Buffer>();
  const waiting = [...entries];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (contents.has(name)) continue;
    const path = join(dist, name);
    if (!existsSync(path)) throw new Error(`${path} is not there: build fn's programs first, with \`npm run build\``);
    const content = readFileSync(path);
    contents.set(name, content);
    for (const [, part] of content.toString('latin1').matchAll(IMPORT)) waiting.push(part!);
  }
  return [...contents.keys()].sort().map((name) => ({ target: `${place}/${name}`, content: contents.get(name)! }));
}
