/** Which driver to use, and what it makes instances of: images for Docker, the shims themselves for processes. */
import { spawn } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { delimiter, isAbsolute, join } from 'node:path';
import { z } from 'zod';
import { findEngine } from '../engine.ts';
import { CliError, EXIT, usageError } from '../errors.ts';
import { programFile, root } from '../root.ts';
import type { DriverName, Report, SupervisorOptions } from './options.ts';

export interface Runtimes {
  driver: DriverName;
  env: { FN_DRIVER: string; FN_RUNTIME_IMAGES?: string; FN_RUNTIME_SHIMS?: string; DOCKER_HOST?: string };
}

/** How the process driver starts a runtime; see controller/driver/process/runtimes.ts. */
type ShimStart = string | { shim: string; command: string; args: string[]; version?: string };

/**
 * What there is to run runtimes with as plain processes. Only what is found on this machine is listed:
 * Node is always there.
 */
export function findShims(env: NodeJS.ProcessEnv): Record<string, ShimStart> {
  const shims: Record<string, ShimStart> = { node: join(root, 'runtime-images/node/shim.mjs') };
  const python = findProgram(['python3'], env);
  if (python !== null)
    shims.python = { shim: join(root, 'runtime-images/python/shim.py'), command: python, args: ['-I', '-S', '-B', '-X', 'utf8'] };
  const bun = findProgram(['bun'], env);
  if (bun !== null) shims.bun = { shim: join(root, 'runtime-images/bun/shim.mjs'), command: bun, args: ['--no-install'] };
  const deno = findProgram(['deno'], env);
  if (deno !== null) shims.deno = { shim: join(root, 'runtime-images/deno/shim.mjs'), command: deno, args: [...DENO_ARGS] };
  return shims;
}

/** Deno holds a function to what it needs: its files, its socket, the network. */
const DENO_ARGS = [
  'run',
  '--no-prompt',
  '--no-config',
  '--no-lock',
  '--cached-only',
  '--allow-read={readable}',
  '--allow-write={writable}',
  '--allow-env',
  '--allow-net',
  '--allow-sys',
  '--v8-flags=--max-old-space-size={heapMib}',
] as const;

/** The first of these programs: the system's own before what is on PATH, which may be a person's, closed to others. */
function findProgram(names: readonly string[], env: NodeJS.ProcessEnv): string | null {
  const folders = ['/usr/bin', '/usr/local/bin', ...(env.PATH ?? '').split(delimiter)].filter((folder) => isAbsolute(folder));
  for (const name of names) for (const folder of folders) if (isExecutable(join(folder, name))) return join(folder, name);
  return null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // not there, or not for us
  }
}

/** Settles the driver; with Docker, builds the images that are missing of the runtimes that were asked for. Throws CliError. */
export async function prepareRuntimes(
  { driver, runtimes = [] }: SupervisorOptions,
  env: NodeJS.ProcessEnv,
  report: Report,
): Promise<Runtimes> {
  if (driver === 'process') {
    report({ type: 'step', text: 'driver: process, which isolates nothing: for a first look, and for code that you trust' });
    return processDriver(env);
  }
  if (driver === 'kubernetes' && env.FN_RUNTIME_IMAGES) {
    report({ type: 'step', text: 'driver: kubernetes, with the images of FN_RUNTIME_IMAGES' });
    return { driver, env: { FN_DRIVER: driver, FN_RUNTIME_IMAGES: env.FN_RUNTIME_IMAGES } };
  }
  const engine = await findEngine(env);
  if (engine.kind !== 'ready') {
    if (driver === 'kubernetes')
      throw new CliError(`no Docker engine answers at ${engine.where}, which would build the runtime images: ${engine.detail}`, {
        hint: 'Or name images that the cluster can pull: FN_RUNTIME_IMAGES=\'{"node":"registry.example.com/fn/node:TAG"}\'. See docs/kubernetes.md.',
      });
    if (driver === 'docker') throw new CliError(`no Docker engine answers at ${engine.where}: ${engine.detail}`, { hint: engine.remedy });
    report({
      type: 'step',
      text: `driver: process, which isolates nothing, since there is no Docker engine (${engine.detail}); to get one: ${engine.remedy}`,
    });
    return processDriver(env);
  }
  if (driver !== 'kubernetes' && 'url' in engine.target)
    throw new CliError(`the Docker engine at ${engine.where} is not on this host, and instances are reached by sockets in its folders`, {
      hint: 'Set DOCKER_HOST=unix:///PATH to an engine of this host, or none; or use --driver process for a first look.',
    });
  const { tags } = await buildImages(named(runtimes), env, (text) => report({ type: 'step', text }));
  if (driver === 'kubernetes') {
    report({ type: 'step', text: 'driver: kubernetes, with images of this machine: the nodes of the cluster must have them, too' });
    return { driver, env: { FN_DRIVER: driver, FN_RUNTIME_IMAGES: JSON.stringify(tags) } };
  }
  report({ type: 'step', text: `driver: docker at ${engine.where}` });
  // The controller looks nowhere else: what was found is what is used.
  return { driver: 'docker', env: { FN_DRIVER: 'docker', FN_RUNTIME_IMAGES: JSON.stringify(tags), DOCKER_HOST: engine.where } };
}

const processDriver = (env: NodeJS.ProcessEnv): Runtimes => ({
  driver: 'process',
  env: { FN_DRIVER: 'process', FN_RUNTIME_SHIMS: JSON.stringify(findShims(env)) },
});

/** The builder's arguments for runtimes; none: its default, which is node. */
export const named = (runtimes: readonly string[]): string[] => runtimes.flatMap((name) => ['--runtime', name]);

export interface BuiltImages {
  /** By runtime: those that were asked for. */
  built: Record<string, string>;
  /** Of all runtimes that there are: the tag that its image has, or gets when it is built. */
  tags: Record<string, string>;
}

/**
 * Builds runtime images whose inputs have changed; progress goes to `say`. Throws CliError with the
 * builder's last words.
 */
export async function buildImages(args: readonly string[], env: NodeJS.ProcessEnv, say: (line: string) => void): Promise<BuiltImages> {
  const answer = BuilderAnswer.safeParse(JSON.parse(await runBuilder('build-images', [...args, '--tags'], env, say)));
  if (!answer.success) throw new CliError('the image builder answered something else than its images');
  return answer.data;
}

/** What the programs of runtime-images/ begin their last line with. */
const FAILURE = 'error: ';

/** Runs a program of runtime-images/: its stdout. Throws CliError with its last words. */
export async function runBuilder(
  program: 'build-images' | 'images',
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  say: (line: string) => void,
): Promise<string> {
  const child = spawn(process.execPath, [programFile(program), ...args], {
    cwd: root,
    env: { ...env, FN_RUNTIME_IMAGES_DIR: join(root, 'runtime-images') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const tail: string[] = [];
  const lines = createInterface({ input: child.stderr });
  lines.on('line', (line) => {
    tail.push(line);
    if (tail.length > 20) tail.shift();
    // Its last words are the error that is thrown.
    if (!line.startsWith(FAILURE)) say(line);
  });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  // What is wrong with its arguments, it has said in its last line.
  const last = tail.at(-1)?.replace(FAILURE, '');
  if (code === EXIT.usage) throw usageError(last ?? 'the image builder was called wrongly');
  if (code !== 0)
    throw new CliError(program === 'images' ? (last ?? 'the image builder failed') : 'the runtime images could not be built', {
      details: program === 'images' ? [] : tail,
      hint: 'fn doctor says what is missing on this machine.',
    });
  return Buffer.concat(chunks).toString('utf8');
}

const Tags = z.record(z.string(), z.string());
const BuilderAnswer = z.object({ built: Tags, tags: Tags });
