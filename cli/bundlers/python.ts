/** The bundler of the runtime `python`: its sources as they are, and the packages of requirements.txt. */
import { existsSync, readFileSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { BUNDLE_LIMITS } from '#contract/api.ts';
import type { ArchiveFile } from '../archive.ts';
import { CliError, usageError } from '../errors.ts';
import { formatBytes } from '../output.ts';
import { readAssets } from './assets.ts';
import { pack } from './javascript.ts';
import { PACKAGES_FOLDER, vendorRequirements } from './requirements.ts';
import type { Bundle, BundleRequest } from './types.ts';

const REQUIREMENTS = 'requirements.txt';
/** Folders of packages that the runtime looks into; whoever has one has vendored himself. */
const VENDORED = [PACKAGES_FOLDER, 'vendor'] as const;
/** Where the name of the object goes that the entry names: `app.py:app`. */
const OBJECT_FILE = 'fn.json';

/** Names of folders and files that are no part of a function, wherever they are. Those that begin with a dot are none either. */
const SKIPPED = /^(?:\..*|__pycache__|venv|node_modules|.*\.py[co]|.*\.egg-info|fn\.ya?ml|fn\.[a-z0-9-]+\.ya?ml)$/;

/** Of a request what this bundler needs. */
type PythonRequest = Pick<BundleRequest, 'source' | 'cwd' | 'assets' | 'say' | 'signal'>;

/** Throws CliError with what pip said, or usageError with what is wrong with the sources. */
export async function bundlePython({ source, cwd, assets, say, signal }: PythonRequest): Promise<Bundle> {
  const { folder, object } = source;
  const entry = relative(folder, source.entry).replaceAll(sep, '/');
  const warnings: string[] = [];
  const files = source.whole ? below(folder, '', warnings) : reachable(folder, source.entry, warnings);
  const own = VENDORED.filter((name) => isFolder(join(folder, name)));
  if (!source.whole) for (const name of own) files.push(...below(folder, name, warnings));
  const requirements = join(folder, REQUIREMENTS);
  if (existsSync(requirements) && own.length === 0) files.push(...(await vendorRequirements(requirements, say, signal)));
  else if (existsSync(requirements)) say(`${shown(requirements, cwd)} is left alone: the packages are in ${own.join(' and ')}`);
  if (object !== undefined) {
    if (files.some(({ name }) => name === OBJECT_FILE))
      throw usageError(`${OBJECT_FILE} in ${shown(folder, cwd)} has the name of a file that the bundle has itself`, 'Name it differently.');
    files.push({ name: OBJECT_FILE, contents: Buffer.from(`${JSON.stringify({ object })}\n`) });
  }
  const taken = new Set(files.map(({ name }) => name));
  const packed = await pack(
    files,
    readAssets(folder, assets).filter(({ name }) => !taken.has(name)),
  );
  const codeBytes = files.filter(({ name }) => name.endsWith('.py')).reduce((sum, { contents }) => sum + contents.length, 0);
  return { ...packed, entry, codeBytes, warnings };
}

const shown = (path: string, cwd: string): string => {
  const near = relative(cwd, path);
  return near === '' || near.startsWith('..') ? path : near;
};

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() === true;

/** All of a folder below a project's but what is never deployed; `warnings` gets what cannot be. */
function below(folder: string, start: string, warnings: string[]): ArchiveFile[] {
  const files: ArchiveFile[] = [];
  const real = realpathSync(folder);
  let bytes = 0;
  const visit = (place: string, depth: number): void => {
    if (depth > MAX_DEPTH) throw usageError(`${join(folder, place)} is more than ${MAX_DEPTH} folders deep: is there a link to itself?`);
    for (const name of readdirSync(join(folder, place)).sort()) {
      if (SKIPPED.test(name)) continue;
      const path = place === '' ? name : `${place}/${name}`;
      if (!existsSync(join(folder, path))) {
        warnings.push(`${join(folder, path)} is a link to what is not there: it is left out`);
        continue;
      }
      const target = realpathSync(join(folder, path));
      if (target !== real && !target.startsWith(real + sep)) throw usageError(`${path} is a link that leads out of ${folder}`);
      if (isFolder(target)) visit(path, depth + 1);
      else if (isFile(target)) {
        bytes += statSync(target).size;
        if (bytes > BUNDLE_LIMITS.maxUnpackedBytes)
          throw new CliError(`the folder ${folder} is too large: over ${formatBytes(BUNDLE_LIMITS.maxUnpackedBytes)}`, {
            hint: 'Deploy a folder that holds the function and nothing else; large data belongs in a store.',
          });
        files.push({ name: path, contents: readFileSync(target) });
      }
    }
  };
  visit(start, 0);
  return files;
}

const MAX_DEPTH = 64;

/** `import a.b, c`, `from . import d`, `from a import b`: wherever they stand in a line of their own. */
const IMPORT = /^[ \t]*(?:import[ \t]+(?<names>[^\n#;]+)|from[ \t]+(?<from>[.\w]+)[ \t]+import[ \t]+(?<what>\([^)]*\)|[^\n#;]+))/gm;

/** A file, and those beside it that it imports: a folder in which much else may lie does not go along. */
function reachable(folder: string, entry: string, warnings: string[]): ArchiveFile[] {
  const files = new Map<string, ArchiveFile>();
  const unread = [basename(entry)];
  for (let name = unread.pop(); name !== undefined; name = unread.pop()) {
    if (files.has(name)) continue;
    const contents = readFileSync(join(folder, name));
    files.set(name, { name, contents });
    for (const top of topNames(contents.toString())) {
      if (isFile(join(folder, `${top}.py`))) unread.push(`${top}.py`);
      else if (isFolder(join(folder, top)) && !SKIPPED.test(top) && holdsPython(join(folder, top)))
        for (const file of below(folder, top, warnings)) {
          files.set(file.name, file);
          // A package may import what lies beside it, too.
          if (file.name.endsWith('.py')) unread.push(...outside(folder, file));
        }
    }
  }
  return [...files.values()];
}

const outside = (folder: string, file: ArchiveFile): string[] =>
  [...topNames(file.contents.toString())].map((top) => `${top}.py`).filter((name) => isFile(join(folder, name)));

const holdsPython = (folder: string): boolean => readdirSync(folder).some((name) => name.endsWith('.py'));

/** First parts of what a source imports. */
function topNames(text: string): Set<string> {
  const tops = new Set<string>();
  for (const { groups } of text.matchAll(IMPORT)) {
    const plain = (names: string) => names.replaceAll(/[()\n]/g, ' ').split(',').map((one) => one.trim().split(/\s+/)[0]!); // prettier-ignore
    const from = groups?.from;
    const names = from === undefined ? plain(groups?.names ?? '') : /^\.+$/.test(from) ? plain(groups?.what ?? '') : [from];
    for (const name of names) {
      const top = name.replace(/^\.+/, '').split('.')[0]!;
      if (/^\w+$/.test(top)) tops.add(top);
    }
  }
  return tops;
}
