/** Which driver to use, and what it makes instances of: images for Docker, the shims themselves for processes. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { findEngine } from '../engine.ts';
import { CliError } from '../errors.ts';
import { programFile, root } from '../root.ts';
import type { Report, SupervisorOptions } from './options.ts';

export interface Runtimes {
  driver: 'docker' | 'process';
  env: { FN_DRIVER: string; FN_RUNTIME_IMAGES?: string; FN_RUNTIME_SHIMS?: string };
}

/** File of each runtime's shim. */
const SHIMS = { node: join(root, 'runtime-images/node/shim.mjs') };

/** Settles the driver; with Docker, builds the images that are missing. Throws CliError. */
export async function prepareRuntimes({ driver }: SupervisorOptions, env: NodeJS.ProcessEnv, report: Report): Promise<Runtimes> {
  if (driver === 'process') {
    report({ type: 'step', text: 'driver: process, which isolates nothing: for a first look, and for code that you trust' });
    return processDriver();
  }
  const engine = await findEngine(env);
  if (engine.kind !== 'ready') {
    if (driver === 'docker') throw new CliError(`no Docker engine answers at ${engine.where}: ${engine.detail}`, { hint: engine.remedy });
    report({
      type: 'step',
      text: `driver: process, which isolates nothing, since there is no Docker engine (${engine.detail}); to get one: ${engine.remedy}`,
    });
    return processDriver();
  }
  const images = await buildImages([], env, (text) => report({ type: 'step', text }));
  report({ type: 'step', text: `driver: docker at ${engine.where}` });
  return { driver: 'docker', env: { FN_DRIVER: 'docker', FN_RUNTIME_IMAGES: JSON.stringify(images) } };
}

const processDriver = (): Runtimes => ({ driver: 'process', env: { FN_DRIVER: 'process', FN_RUNTIME_SHIMS: JSON.stringify(SHIMS) } });

/**
 * Builds runtime images whose inputs have changed, all or the named ones; progress goes to `say`.
 * Returns runtime → image. Throws CliError with the builder's last words.
 */
export async function buildImages(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  say: (line: string) => void,
): Promise<Record<string, string>> {
  const child = spawn(process.execPath, [programFile('build-images'), ...args, '--json'], {
    cwd: root,
    env: { ...env, FN_RUNTIME_IMAGES_DIR: join(root, 'runtime-images') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const tail: string[] = [];
  const lines = createInterface({ input: child.stderr });
  lines.on('line', (line) => {
    tail.push(line);
    if (tail.length > 20) tail.shift();
    say(line);
  });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0)
    throw new CliError('the runtime images could not be built', { details: tail, hint: 'fn doctor says what is missing on this machine.' });
  const answer: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  const images = typeof answer === 'object' && answer !== null ? Object.entries(answer) : [];
  if (images.length === 0 || images.some(([, image]) => typeof image !== 'string'))
    throw new CliError('the image builder answered something else than its images');
  return Object.fromEntries(images.map(([name, image]) => [name, String(image)]));
}
