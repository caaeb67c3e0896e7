/** Small files that hold a secret of the home: made once, for their owner only. */
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, readFile, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FnError } from '#contract/errors.ts';

export interface PrivateFile {
  path: string;
  /** What it is, for messages: `token file`. */
  what: string;
  /** What to do where it cannot be used, for messages. */
  advice: string;
}

/**
 * Only we and root can read it. What root owns may be open to our group: so a Secret is mounted for a process that is
 * not root (root:fsGroup, 0440), and nobody else is in that group there.
 */
export function isPrivate({ mode, uid }: { mode: number; uid: number }, ours = process.getuid?.()): boolean {
  return (mode & 0o077) === 0 ? ours === undefined || uid === ours : uid === 0 && ours !== 0 && (mode & 0o037) === 0;
}

/**
 * Reads the file, through links, as a mounted Secret has them. null where it is not there. Throws FnError
 * store-unavailable where it is no regular file, belongs to another user, or could have been read by others.
 */
export async function readPrivateFile({ path, what, advice }: PrivateFile): Promise<Buffer | null> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw new FnError('store-unavailable', `The ${what} ${path} cannot be read (${error.message}): ${advice}.`, { cause: error });
  });
  if (found === null) return null;
  if (!found.isFile()) throw new FnError('store-unavailable', `The ${what} ${path} is not a regular file: ${advice}.`);
  if (!isPrivate(found)) throw new FnError('store-unavailable', `The ${what} ${path} could be read by others: ${advice}.`);
  return readFile(path);
}

/**
 * Reads the file, made at the first use: mode 0600, and on the disk before anybody sees it. By link,
 * which never replaces: of two that begin at once, one makes it and both use it. Throws FnError store-unavailable.
 */
export async function ensurePrivateFile(file: PrivateFile, make: () => string | Uint8Array): Promise<Buffer> {
  const there = await readPrivateFile(file);
  if (there !== null) return there;
  const contents = make();
  await write(file.path, contents).catch((error: NodeJS.ErrnoException) => {
    const full = error.code === 'ENOSPC' || error.code === 'EDQUOT' ? '; the disk is full: free some space' : '';
    throw new FnError('store-unavailable', `The ${file.what} ${file.path} cannot be made (${error.message})${full}.`, { cause: error });
  });
  const made = await readPrivateFile(file);
  if (made === null) throw new FnError('store-unavailable', `The ${file.what} ${file.path} was removed while it was made.`);
  return made;
}

/** As a whole or not at all; does nothing where somebody else was first. */
async function write(path: string, contents: string | Uint8Array): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.writeFile(contents);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    // What was sealed with a key whose name did not reach the disk would be lost with the power.
    const parent = await open(folder, 'r');
    await parent.sync().finally(() => parent.close());
  } finally {
    await rm(temporary, { force: true });
  }
}
