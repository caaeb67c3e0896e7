/** What `fn deploy FILE|DIR` names: which file to bundle, in which folder, and under which name. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { FunctionName } from '#contract/names.ts';
import { javaScriptRuntime, otherEntry, runtimeOfFile } from './detect.ts';
import { usageError } from './errors.ts';

export const SOURCE_EXTENSIONS = ['.ts', '.mts', '.cts', '.tsx', '.js', '.mjs', '.cjs', '.jsx'] as const;

/** File names that a folder's function may have, the most telling first; `src/` is looked at after the folder itself. */
const ENTRY_NAMES = ['index', 'handler', 'server', 'app', 'main', 'worker', 'function'] as const;

/** File names that say nothing about the function: its folder's name does. */
const GENERIC_NAMES: ReadonlySet<string> = new Set([...ENTRY_NAMES, 'src', 'dist', 'lib', 'dockerfile', 'containerfile']);

export interface Source {
  /** Absolute path of the file to bundle. */
  entry: string;
  /** Folder that the paths in the bundle and its source map are relative to. */
  folder: string;
  /** Name of the function, where nothing else is said; null where none can be made. */
  name: string | null;
  /** It was named by its folder: all of that is meant, where a language has no bundler. */
  whole?: boolean;
  /** The object of the entry that is meant, where it was named: `app.py:app`. */
  object?: string;
  /** Which runtime it is for, by its files, where nothing else is said. */
  runtime?: string;
}

/** Finds what is meant by a path. Throws usageError that says what was looked for. */
export function findSource(path: string, cwd: string): Source {
  const named = /^(?<file>.+\.py):(?<object>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)$/.exec(path)?.groups;
  if (named) return { ...findSource(named.file!, cwd), object: named.object! };
  const absolute = resolve(cwd, path);
  const stats = statSync(absolute, { throwIfNoEntry: false });
  if (!stats) throw usageError(`there is no file or folder ${absolute}`);
  if (stats.isDirectory()) return { ...findEntry(absolute), folder: absolute, name: toLabel(basename(absolute)), whole: true };
  if (!hasSourceExtension(absolute)) {
    const runtime = runtimeOfFile(absolute);
    if (runtime !== null) return { entry: absolute, folder: dirname(absolute), name: nameOfFile(absolute), runtime };
    throw usageError(
      `${path} is not a source file that fn can bundle`,
      `Its name ends in one of ${SOURCE_EXTENSIONS.join(', ')}; or in .py; or it is an executable for Linux, a Dockerfile, or an image as a .tar.`,
    );
  }
  const folder = dirname(absolute);
  return { entry: absolute, folder, name: nameOfFile(absolute), runtime: javaScriptRuntime(folder) };
}

const hasSourceExtension = (path: string): boolean => SOURCE_EXTENSIONS.some((extension) => path.endsWith(extension));

/** package.json's module or main, else the first usual file name; else an executable, or a Dockerfile. */
function findEntry(folder: string): { entry: string; runtime: string } {
  const runtime = javaScriptRuntime(folder);
  const declared = declaredEntry(folder);
  if (declared !== null) {
    const entry = resolveFile(resolve(folder, declared));
    if (entry !== null) return { entry, runtime };
    throw usageError(
      `${join(folder, 'package.json')} names ${declared} as its entry, which is not there`,
      'Correct it, build it, or deploy the source file itself.',
    );
  }
  for (const place of [folder, join(folder, 'src')]) {
    for (const name of ENTRY_NAMES) {
      const entry = resolveFile(join(place, name));
      if (entry !== null) return { entry, runtime };
    }
  }
  const other = otherEntry(folder);
  if (other !== null) return other;
  const manifest = ['fn.yaml', 'fn.yml'].find((name) => existsSync(join(folder, name)));
  if (manifest !== undefined)
    throw usageError(`no function found in ${folder}`, `It has ${manifest}; all that it names: fn deploy --file ${join(folder, manifest)}`);
  throw usageError(
    `no function found in ${folder}`,
    `It needs a package.json with "main", or a file named ${ENTRY_NAMES.join(', ')} (.ts, .js, .py, …), or an executable, or a Dockerfile; or deploy a file: fn deploy ${join(folder, 'FILE')}`,
  );
}

/** `main` or `module` of the folder's package.json; sources are preferred to what a build made of them. */
function declaredEntry(folder: string): string | null {
  const file = join(folder, 'package.json');
  if (!existsSync(file)) return null;
  let manifest: unknown;
  try {
    manifest = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw usageError(`${file} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof manifest !== 'object' || manifest === null) return null;
  for (const field of ['module', 'main'] as const) {
    const value: unknown = Reflect.get(manifest, field);
    if (typeof value === 'string' && value !== '') return value;
  }
  return null;
}

/** The file itself, or with an extension, or the index of a folder, as Node resolves `main`. */
function resolveFile(path: string): string | null {
  const isFile = (candidate: string) => statSync(candidate, { throwIfNoEntry: false })?.isFile() === true;
  if (hasSourceExtension(path) && isFile(path)) return path;
  for (const extension of SOURCE_EXTENSIONS) if (isFile(path + extension)) return path + extension;
  for (const extension of SOURCE_EXTENSIONS) if (isFile(join(path, `index${extension}`))) return join(path, `index${extension}`);
  return null;
}

/** `resize.ts` → resize; `resize/index.ts` and `resize/src/handler.ts` → resize. */
function nameOfFile(file: string): string | null {
  const own = basename(file, extname(file));
  if (!GENERIC_NAMES.has(own.toLowerCase())) return toLabel(own);
  let folder = dirname(file);
  while (GENERIC_NAMES.has(basename(folder).toLowerCase()) && dirname(folder) !== folder) folder = dirname(folder);
  return toLabel(basename(folder));
}

/** Makes a name out of any text: `MyThing v2` → my-thing-v2; null where nothing is left of it. */
export function toLabel(text: string): string | null {
  const label = text
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '');
  return FunctionName.safeParse(label).success ? label : null;
}
