/** The inputs of an image, and the digest over them that names its tag. Reads a few small files: fast enough for every start. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { definitionText } from './definition.ts';
import { dockerfileOf } from './dockerfile.ts';
import type { ImageFile, Program, RuntimeDefinition } from './runtime.ts';

export interface ImageInputs {
  definition: RuntimeDefinition;
  programs: readonly Program[];
  /** Those of the shim, and others. Read once, so that what is digested is what goes into the image, also while somebody edits it. */
  files: readonly ImageFile[];
  dockerfile: Buffer;
  /** packages.lock of the base, and of the runtime. */
  lockPaths: { base: string; own: string };
  /** Hex SHA-256 over all inputs of the base, and of the layer with the runtime's packages. */
  baseDigest: string;
  packagesDigest: string;
  /** What the tag begins with. */
  tagVersion: string | null;
  /** Hex SHA-256 over all inputs of the image. */
  digest: string;
}

/** `fn/node:0a1b2c3d4e5f`, `fn/gateway:0.3.0-0a1b2c3d4e5f` */
export function imageTag({ definition, tagVersion, digest }: ImageInputs): string {
  return `fn/${definition.name}:${tagVersion === null ? '' : `${tagVersion}-`}${digest.slice(0, 12)}`;
}

/** Reads the inputs. `base` is an image that takes the place of our own base. Throws where a part is missing. */
export function imageInputs(root: string, definition: RuntimeDefinition, base: string | null): ImageInputs {
  const folder = join(root, definition.folder ?? definition.name);
  const programs = definition.programs(root);
  const files = [...definition.shim.flatMap((path) => shimFiles(folder, path, definition.shimExtensions)), ...definition.files(root)];
  const lockPaths = { base: join(root, 'base', 'packages.lock'), own: join(folder, 'packages.lock') };
  const dockerfile = definition.kind === 'runtime' ? readFileSync(join(folder, 'Dockerfile')) : Buffer.from(dockerfileOf(definition));
  const tagVersion = definition.tagVersion(root);
  const version = definition.version(root);
  const baseDigest = digestOf(['base', process.arch, definitionText(), textOf(lockPaths.base)]);
  const packagesDigest = digestOf(['packages', baseDigest, selectionText(definition), textOf(lockPaths.own)]);
  const parts: (string | Buffer)[] = [
    definition.name,
    process.arch,
    typeof version === 'string' ? version : version.package,
    tagVersion ?? '',
    JSON.stringify([definition.config, definition.labels, definition.entries]),
    base === null ? packagesDigest : `${base}\n${dockerfile.toString()}\n${definitionText()}`,
  ];
  for (const program of programs) parts.push(program.target, program.identity);
  for (const file of files) parts.push(file.target, String(file.mode ?? ''), file.content);
  return { definition, programs, files, dockerfile, lockPaths, baseDigest, packagesDigest, tagVersion, digest: digestOf(parts) };
}

const textOf = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');

/** All of a definition that the layer of its packages depends on. What `complete` does is known by BUILDER_FORMAT. */
function selectionText({ packages, kept, dropped, links, complete }: RuntimeDefinition): string {
  return JSON.stringify({ packages, kept: kept.map(String), dropped: dropped.map(String), links, completed: complete !== undefined });
}

/**
 * A file, or the files of a folder that have one of the extensions, at the same places below /fn. What
 * begins with `../` is beside the runtime's folder, and beside it below /fn too: `../node/shim` → fn/node/shim.
 */
function shimFiles(folder: string, path: string, extensions: readonly string[]): ImageFile[] {
  const place = join(folder, path);
  const target = `fn/${path.replace(/^\.\.\//, '')}`;
  if (!statSync(place).isDirectory()) return [{ target, content: readFileSync(place) }];
  return readdirSync(place)
    .filter((name) => extensions.some((extension) => name.endsWith(extension)))
    .sort()
    .map((name) => ({ target: `${target}/${name}`, content: readFileSync(join(place, name)) }));
}

/** Lengths go in too, so that no two lists of parts give the same text. */
function digestOf(parts: (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}\n`).update(part);
  return hash.digest('hex');
}
