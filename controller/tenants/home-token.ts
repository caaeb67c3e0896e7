/** The home's own token, for the control API over TCP: 256 random bits in a file that only its owner can read. */
import { FnError } from '#contract/errors.ts';
import { newSecret } from '#kit/ids.ts';
import { ensurePrivateFile, type PrivateFile } from '#kit/private-file.ts';

/** base64url of 32 bytes. */
const TOKEN = /^[A-Za-z0-9_-]{43}$/;

/** Reads the token, made at the first use. Throws FnError store-unavailable where the file could have been read by others. */
export async function ensureToken(path: string): Promise<string> {
  const file: PrivateFile = { path, what: 'token file', advice: 'delete it, and a new one is made at the next start' };
  const token = (await ensurePrivateFile(file, () => `${newSecret()}\n`)).toString('utf8').trim();
  if (!TOKEN.test(token)) throw new FnError('store-unavailable', `The ${file.what} ${path} does not hold a token: ${file.advice}.`);
  return token;
}
