/** The home's own token, for the control API over TCP: 256 random bits in a file that only its owner can read. */
import { FnError } from '#contract/errors.ts';
import { newSecret } from '#kit/ids.ts';
import { ensurePrivateFile, type PrivateFile, readPrivateFile } from '#kit/private-file.ts';

/** base64url of 32 bytes. */
const TOKEN = /^[A-Za-z0-9_-]{43}$/;
/** One that was made elsewhere: as long, whatever made it. */
const GIVEN_TOKEN = /^[A-Za-z0-9_-]{43,256}$/;

/** Reads the token, made at the first use. Throws FnError store-unavailable where the file could have been read by others. */
export async function ensureToken(path: string): Promise<string> {
  const file: PrivateFile = { path, what: 'token file', advice: 'delete it, and a new one is made at the next start' };
  const token = (await ensurePrivateFile(file, () => `${newSecret()}\n`)).toString('utf8').trim();
  if (!TOKEN.test(token)) throw new FnError('store-unavailable', `The ${file.what} ${path} does not hold a token: ${file.advice}.`);
  return token;
}

/** Reads a token that all controllers are given. Throws FnError store-unavailable where it is not there, could have been read by others, or is none. */
export async function readToken(path: string): Promise<string> {
  const advice = 'FN_API_TOKEN_FILE names a file of 43 to 256 letters, digits, - or _, the same to all controllers';
  const file: PrivateFile = { path, what: 'token file', advice };
  const token = (await readPrivateFile(file))?.toString('utf8').trim();
  if (token === undefined) throw new FnError('store-unavailable', `The ${file.what} ${path} is not there: ${advice}.`);
  if (!GIVEN_TOKEN.test(token)) throw new FnError('store-unavailable', `The ${file.what} ${path} does not hold a token: ${advice}.`);
  return token;
}
