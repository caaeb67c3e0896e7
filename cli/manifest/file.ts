/** Finding and reading fn.yaml. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { Manifest } from '#contract/manifest.ts';
import { usageError } from '../errors.ts';
import { formatBytes } from '../output.ts';
import { faultsOf, placesOf } from './issues.ts';
import { restOf } from './rest.ts';
import { ManifestText } from './text.ts';
import { parseYaml } from './yaml.ts';

export const MANIFEST_NAMES = ['fn.yaml', 'fn.yml'] as const;

/** A file that is larger was not written by hand. */
const MAX_MANIFEST_BYTES = 256 * 1024;

export interface ManifestFile {
  /** Absolute. */
  path: string;
  /** What entries are relative to. */
  folder: string;
  manifest: Manifest;
  text: ManifestText;
}

/**
 * The manifest of this folder or of the nearest one above it, up to the root of the repository; outside
 * of a repository only of this folder. Null where there is none.
 */
export function findManifest(cwd: string): string | null {
  for (const folder of lookedThrough(cwd)) {
    const found = MANIFEST_NAMES.map((name) => join(folder, name)).filter((path) => existsSync(path));
    if (found.length > 1) throw usageError(`${folder} has both ${MANIFEST_NAMES.join(' and ')}`, 'Keep one of them.');
    if (found[0] !== undefined) return found[0];
  }
  return null;
}

function lookedThrough(cwd: string): string[] {
  const folders: string[] = [];
  for (let folder = resolve(cwd); ; folder = dirname(folder)) {
    folders.push(folder);
    if (existsSync(join(folder, '.git'))) return folders;
    if (dirname(folder) === folder) return folders.slice(0, 1);
  }
}

/** Reads one. Throws CliError (exit code 2) with all that is wrong, each with FILE:LINE:COLUMN. */
export function readManifest(path: string, cwd: string): ManifestFile {
  const absolute = resolve(cwd, path);
  const below = relative(cwd, absolute);
  const text = new ManifestText(below === '' || below.startsWith('..') ? absolute : below, contents(absolute));
  const raw = parseYaml(text);
  const file = { path: absolute, folder: dirname(absolute), text };
  const result = Manifest.safeParse(raw);
  if (result.success) return { ...file, manifest: result.data };
  const { issues } = result.error;
  throw text.error([...faultsOf(issues, text), ...restOf(raw, placesOf(issues), file)]);
}

function contents(path: string): string {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats?.isFile()) throw usageError(`there is no file ${path}`);
  if (stats.size > MAX_MANIFEST_BYTES)
    throw usageError(`${path} is too large: ${formatBytes(stats.size)}; the limit is ${formatBytes(MAX_MANIFEST_BYTES)}`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    if (error instanceof TypeError) throw usageError(`${path} is not UTF-8 text`);
    throw error;
  }
}
