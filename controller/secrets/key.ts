/**
 * The key that secrets are sealed with: 32 random bytes in a file outside the store. It is made with
 * the first secret; where there are secrets already and no key, it was lost, and a new one would hide that.
 */
import { createHash, randomBytes } from 'node:crypto';
import { FnError } from '#contract/errors.ts';
import { ensurePrivateFile, type PrivateFile, readPrivateFile } from '#kit/private-file.ts';

const KEY_BYTES = 32;
/** Of the key's hash, to tell one key from another. It stands in front of every sealed value, and says nothing of the key. */
export const KEY_ID_BYTES = 8;

export interface SealingKey {
  id: Uint8Array;
  bytes: Uint8Array;
}

/** Reads the key; null where there is none. Throws FnError store-unavailable. */
export async function readKey(path: string): Promise<SealingKey | null> {
  const bytes = await readPrivateFile(fileOf(path));
  return bytes === null ? null : checked(path, bytes);
}

/** Reads the key, made at the first use. Throws FnError store-unavailable. */
export async function ensureKey(path: string): Promise<SealingKey> {
  return checked(path, await ensurePrivateFile(fileOf(path), () => randomBytes(KEY_BYTES)));
}

/** Where several controllers have one key, none makes it. Throws FnError store-unavailable where it is not there, or is none. */
export async function requireKey(path: string): Promise<void> {
  if ((await readKey(path)) !== null) return;
  const { what } = fileOf(path);
  const advice = `FN_SECRET_KEY_FILE names a file of ${KEY_BYTES} random bytes, the same to all controllers`;
  throw new FnError('store-unavailable', `The ${what} ${path} is not there: ${advice}.`);
}

const fileOf = (path: string): PrivateFile => ({
  path,
  what: 'key of the secrets',
  advice: 'restore it from its backup, owned by the user who runs fn, with mode 0600',
});

function checked(path: string, bytes: Buffer): SealingKey {
  const { what, advice } = fileOf(path);
  if (bytes.length !== KEY_BYTES)
    throw new FnError('store-unavailable', `The ${what} ${path} has ${bytes.length} bytes and not ${KEY_BYTES}: ${advice}.`);
  const id = createHash('sha256').update('fn secret key id\0').update(bytes).digest().subarray(0, KEY_ID_BYTES);
  return { id, bytes };
}
