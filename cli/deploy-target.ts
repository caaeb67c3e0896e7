/** What `fn deploy WORDS` is about: a path, or functions of the manifest. */
import { existsSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import type { Input } from './command.ts';
import type { Context } from './context.ts';
import { usageError } from './errors.ts';
import type { ManifestFile } from './manifest/file.ts';
import { findManifest, readManifest } from './manifest/file.ts';
import { didYouMean } from './manifest/similar.ts';

/** Functions of a manifest; no names: all of them. */
export interface ManifestTarget {
  file: ManifestFile;
  names: readonly string[];
}

/** Path null: an image, which no path leads to. */
export type Target = { path: string | null } | ManifestTarget;

/** Throws usageError where there is nothing to deploy, or it is not clear what. */
export function chooseTarget(ctx: Pick<Context, 'cwd'>, input: Input): Target {
  const words = input.rest(0);
  if (words.includes(''))
    throw usageError('an empty name was given, where a function or a path should be', 'Is a variable of the shell not set?');
  const said = input.text('file');
  if (said === undefined && words.length === 1 && looksLikePath(words[0]!)) return { path: words[0]! };
  if (said === undefined && words.length === 0 && input.text('image') !== undefined && input.text('name') !== undefined)
    return { path: null };
  const path = said ?? findManifest(ctx.cwd);
  if (path === null) return withoutManifest(ctx, words);
  const paths = words.filter(looksLikePath);
  if (paths.length > 0)
    throw usageError(
      `${paths.join(' ')} is a path: one path alone, or names of functions of the manifest`,
      'For several sources: fn.yaml, see docs/manifest.md.',
    );
  const file = readManifest(path, ctx.cwd);
  const known = Object.keys(file.manifest.functions);
  const [word] = words;
  const isFunction = word !== undefined && known.includes(word);
  // A folder that the manifest does not name is deployed by its path, as without a manifest.
  if (said === undefined && words.length === 1 && !isFunction && existsSync(resolve(ctx.cwd, word!))) return { path: word! };
  const stranger = words.find((name) => !known.includes(name));
  if (stranger !== undefined)
    throw usageError(
      `${file.text.label} has no function ${stranger}${didYouMean(stranger, known)}, and there is no such file or folder`,
      `It has: ${known.join(', ')}.`,
    );
  return { file, names: words };
}

/** `./api`, `api.ts`, `src/api`; not `api`. */
const looksLikePath = (word: string): boolean => /[/\\]/.test(word) || word === '.' || word === '..' || extname(word) !== '';

function withoutManifest({ cwd }: Pick<Context, 'cwd'>, words: readonly string[]): Target {
  if (words.length === 1) return { path: words[0]! };
  if (words.length > 1)
    throw usageError(`there is no fn.yaml in ${cwd} or above that could name ${words.join(', ')}`, 'One source: fn deploy FILE|DIR');
  throw usageError(`there is no fn.yaml in ${cwd} or above`, 'Name a source: fn deploy FILE|DIR; or write an fn.yaml: docs/manifest.md');
}
