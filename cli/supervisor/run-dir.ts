/** The run folder: sockets and instances, with exactly the rights that each of its users needs. */
import { chmodSync, chownSync, lstatSync, mkdirSync, rmSync, rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { HomePaths } from '#kit/paths.ts';
import { CliError } from '../errors.ts';

/** The uid and gid of the gateway where fn runs as root: of nobody else, in no other group. */
export const GATEWAY_UID = 64_777;
export const GATEWAY_GID = 64_777;

/** Makes the folders. Throws CliError where another user's are in their place. */
export function makeRunDir(paths: HomePaths, asRoot: boolean): void {
  // As root, others pass through on the way to what is theirs, and see no names.
  const passable = asRoot ? 0o711 : 0o700;
  requireOwnHome(paths.home);
  if (asRoot) makeFolder(dirname(paths.runDir), passable);
  makeFolder(paths.runDir, passable);
  makeFolder(dirname(paths.controlSocket), 0o700);
  makeFolder(dirname(paths.linkSocket), asRoot ? 0o710 : 0o700);
  if (asRoot) chownSync(dirname(paths.linkSocket), 0, GATEWAY_GID);
  makeFolder(paths.logs, 0o700);
}

/** Whoever else can write in the home can put links where root, or you, will write. */
function requireOwnHome(home: string): void {
  const { uid, mode } = lstatSync(home);
  if (uid !== process.getuid?.())
    throw new CliError(`the home ${home} belongs to another user (uid ${uid})`, {
      hint: 'Run fn as that user, or choose another: --home DIR',
    });
  if ((mode & 0o022) !== 0)
    throw new CliError(`others may write in the home ${home}`, { hint: `chmod go-w '${home}', or choose another: --home DIR` });
}

/** In a folder that all may write (/tmp) somebody may have made ours first, or put a link there. */
function makeFolder(path: string, mode: number): void {
  mkdirSync(path, { recursive: true, mode });
  const stats = lstatSync(path);
  if (!stats.isDirectory() || stats.uid !== process.getuid?.()) {
    throw new CliError(`${path} belongs to someone else`, { hint: 'Remove it, or choose a home with a shorter path: fn up --home DIR' });
  }
  chmodSync(path, mode);
}

/** Removes the run folder, and the folder of all of root's run folders where it was the last. Idempotent. */
export function removeRunDir(paths: HomePaths, asRoot: boolean): void {
  rmSync(paths.runDir, { recursive: true, force: true });
  if (!asRoot) return;
  try {
    rmdirSync(dirname(paths.runDir));
  } catch (error) {
    const expected =
      error instanceof Error && 'code' in error && (error.code === 'ENOTEMPTY' || error.code === 'ENOENT' || error.code === 'EEXIST');
    if (!expected) throw error;
  }
}
