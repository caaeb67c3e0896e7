/**
 * Around a whole run: one folder for the homes of all platforms that tests start and for all temporary files, and a
 * sweep at the end. The guard does the same where the run is killed.
 */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { homePaths } from '#kit/paths.ts';
import { removeNamespaces } from '../helpers/kube.ts';
import { removeLeftovers } from '../helpers/leaks.ts';

/** Made by run.mjs, which waits until it has gone, or here. Short, for the paths of sockets in it. */
function runFolder(): string {
  const folder = process.env.FN_TEST_RUN ?? mkdtempSync('/tmp/fnt-');
  // Gateways and instances run as other users, and must pass.
  chmodSync(folder, 0o711);
  const temporary = join(folder, 't');
  mkdirSync(temporary);
  chmodSync(temporary, 0o1777);
  return folder;
}

function startGuard(folder: string): void {
  const guard = spawn(process.execPath, [join(import.meta.dirname, 'guard.ts'), folder], {
    detached: true,
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  guard.unref();
  // Which it is, though its type is wider: it must not hold the run.
  if (guard.stdin instanceof Socket) guard.stdin.unref();
}

export default function setup(): (() => Promise<void>) | undefined {
  // Each project of the configuration calls this; the first one holds the folder.
  if (process.env.FN_TEST_FOLDER !== undefined) return undefined;
  const folder = runFolder();
  // Before it is in the environment, by which the guard knows what it must end.
  startGuard(folder);
  process.env.FN_TEST_FOLDER = folder;
  return async () => {
    const left = await removeNamespaces(folder);
    for (const name of existsSync(folder) ? readdirSync(folder) : [])
      if (name !== 't') await removeLeftovers(homePaths(join(folder, name)));
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
    if (left.length > 0) throw new Error(left.join('\n'));
  };
}
