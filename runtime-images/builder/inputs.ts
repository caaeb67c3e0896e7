/** The inputs of an image, and the digest over them that names its tag. Reads a few small files: fast enough for every start. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { definitionText } from './definition.ts';

export interface NodeBinary {
  path: string;
  /** Without a leading v. */
  version: string;
}

/** A file of the shim. Read once: what is digested is what goes into the image, also while somebody edits it. */
export interface ShimFile {
  /** Path in the image. */
  target: string;
  content: Buffer;
}

export interface ImageInputs {
  node: NodeBinary;
  shim: ShimFile[];
  dockerfile: Buffer;
  lockPath: string;
  /** Hex SHA-256 over all inputs of the base. */
  baseDigest: string;
  /** Hex SHA-256 over all inputs of the image. */
  digest: string;
}

/** Reads the inputs. `base` is an image that takes the place of our own base. Throws where a part is missing. */
export function nodeImageInputs(root: string, base: string | null): ImageInputs {
  const node = nodeBinary(root);
  const shim = shimFiles(root);
  const lockPath = join(root, 'base', 'packages.lock');
  const dockerfile = readFileSync(join(root, 'node', 'Dockerfile'));
  const lock = existsSync(lockPath) ? readFileSync(lockPath, 'utf8') : '';
  const baseDigest = digestOf(['base', process.arch, definitionText(), lock]);
  const parts: (string | Buffer)[] = [
    'node',
    process.arch,
    node.version,
    base === null ? baseDigest : `${base}\n${dockerfile.toString()}\n${definitionText()}`,
  ];
  for (const file of shim) parts.push(file.target, file.content);
  return { node, shim, dockerfile, lockPath, baseDigest, digest: digestOf(parts) };
}

/** The binary of npm package `node` that belongs to this checkout; else the Node that runs this. */
function nodeBinary(root: string): NodeBinary {
  const require = createRequire(join(root, 'build.ts'));
  try {
    const manifest = require.resolve('node/package.json');
    const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
    const path = join(dirname(manifest), 'bin', 'node');
    if (existsSync(path)) return { path, version };
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'MODULE_NOT_FOUND') throw error;
  }
  return { path: process.execPath, version: process.versions.node };
}

/** shim.mjs and what is in shim/, at the same places below /fn. */
function shimFiles(root: string): ShimFile[] {
  const folder = join(root, 'node', 'shim');
  const parts = readdirSync(folder)
    .filter((name) => name.endsWith('.mjs'))
    .sort()
    .map((name) => ({ target: `fn/shim/${name}`, content: readFileSync(join(folder, name)) }));
  return [{ target: 'fn/shim.mjs', content: readFileSync(join(root, 'node', 'shim.mjs')) }, ...parts];
}

/** Lengths go in too, so that no two lists of parts give the same text. */
function digestOf(parts: (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}\n`).update(part);
  return hash.digest('hex');
}
