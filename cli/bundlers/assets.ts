/** Files that go along with a function, beside what its code imports: named by globs relative to its folder. */
import { globSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { isAbsolute, join, sep } from 'node:path';
import { BUNDLE_LIMITS } from '#contract/api.ts';
import { EXECUTABLE_MODE, type ArchiveFile } from '../archive.ts';
import { CliError, usageError } from '../errors.ts';
import { formatBytes } from '../output.ts';

const EXECUTABLE_BITS = 0o111;

/** Reads them, each once. Throws usageError for a glob that leads out of the folder or matches nothing. */
export function readAssets(folder: string, globs: readonly string[]): ArchiveFile[] {
  const names = new Set<string>();
  for (const glob of globs) {
    if (isAbsolute(glob) || glob.split(/[/\\]/).includes('..'))
      throw usageError(`the asset ${glob} is outside of the function's folder`, `Assets are relative to ${folder}, and below it.`);
    const found = matches(folder, glob.replace(/^(?:\.\/)+/, '').replace(/\/+$/, ''));
    if (found.length === 0) throw usageError(`no file matches the asset ${glob}`, `It is looked for in ${folder}.`);
    for (const name of found) names.add(name);
  }
  const real = realpathSync(folder);
  let bytes = 0;
  return [...names].sort().map((name) => {
    const path = realpathSync(join(folder, name));
    if (path !== real && !path.startsWith(real + sep)) throw usageError(`the asset ${name} is a link that leads out of ${folder}`);
    bytes += statSync(path).size;
    if (bytes > BUNDLE_LIMITS.maxUnpackedBytes)
      throw new CliError(`the assets are too large: over ${formatBytes(BUNDLE_LIMITS.maxUnpackedBytes)}`, {
        hint: 'Large data belongs in a store.',
      });
    return { name, ...readEntry(path) };
  });
}

/** Contents of a file, and whether it may be executed. */
export function readEntry(path: string): Pick<ArchiveFile, 'contents' | 'mode'> {
  const executable = (statSync(path).mode & EXECUTABLE_BITS) !== 0;
  return { contents: readFileSync(path), ...(executable ? { mode: EXECUTABLE_MODE } : {}) };
}

/** Files that a glob names; of a folder all that is in it. */
function matches(folder: string, glob: string): string[] {
  const pattern = statSync(join(folder, glob), { throwIfNoEntry: false })?.isDirectory() ? `${glob}/**` : glob;
  return globSync(pattern === './**' ? '**' : pattern, { cwd: folder })
    .filter((name) => statSync(join(folder, name), { throwIfNoEntry: false })?.isFile() === true)
    .map((name) => name.replaceAll(sep, '/'));
}
