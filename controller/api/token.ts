/** The token of the control API over TCP: 256 random bits in a file that only its owner can read. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { link, lstat, open, readFile, rm } from 'node:fs/promises';
import { FnError } from '#contract/errors.ts';
import { newSecret } from '#kit/ids.ts';

/** base64url of 32 bytes. */
const TOKEN = /^[A-Za-z0-9_-]{43}$/;

/** Reads the token, made at the first use. Throws FnError store-unavailable where the file could have been read by others. */
export async function ensureToken(path: string): Promise<string> {
  try {
    return await readToken(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
  const temporary = `${path}.${process.pid}.${newSecret().slice(0, 8)}`;
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(`${newSecret()}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    // By link, which never replaces: of two that begin at once, one makes the token and both use it.
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(temporary, { force: true });
  }
  return readToken(path);
}

async function readToken(path: string): Promise<string> {
  const found = await lstat(path);
  const advice = 'delete it, and a new one is made at the next start';
  if (!found.isFile()) throw new FnError('store-unavailable', `The token file ${path} is not a regular file: ${advice}.`);
  if ((found.mode & 0o077) !== 0 || (process.getuid !== undefined && found.uid !== process.getuid())) {
    throw new FnError('store-unavailable', `The token file ${path} could be read by others: ${advice}.`);
  }
  const token = (await readFile(path, 'utf8')).trim();
  if (!TOKEN.test(token)) throw new FnError('store-unavailable', `The token file ${path} does not hold a token: ${advice}.`);
  return token;
}

/** Whether an Authorization header carries the token. */
export type TokenCheck = (authorization: string | undefined) => boolean;

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Compares digests, in constant time: neither the length nor the first wrong character shows. */
export function tokenCheck(token: string): TokenCheck {
  const expected = sha256(token);
  return (authorization) => {
    const presented = /^bearer +([^\s]+)$/i.exec(authorization ?? '')?.[1];
    return timingSafeEqual(sha256(presented ?? ''), expected) && presented !== undefined;
  };
}
