/**
 * The file of the token that is shown on links over TCP. It has one token in its first line, or two: while one takes
 * the place of the other. Who listens takes either; who dials shows the first, and where that is refused the next one.
 * So the two ends may read a new file at different times, as they do where it is a Kubernetes Secret.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** Shorter ones could be guessed; longer ones do not fit into a greeting. Characters. */
export const MIN_TOKEN_LENGTH = 32;
export const MAX_TOKEN_LENGTH = 512;
/** Tokens of a file. */
const MAX_TOKENS = 2;

/** Throws an Error that says what is wrong with the file, without a token in it. */
export function parseTokens(text: string, file: string): string[] {
  const tokens = text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  if (tokens.length === 0) throw new Error(`the token file ${file} is empty: put a token of ${MIN_TOKEN_LENGTH} characters or more in it`);
  if (tokens.length > MAX_TOKENS)
    throw new Error(`the token file ${file} has ${tokens.length} tokens: it may have one, or two while one replaces the other`);
  for (const [index, token] of tokens.entries()) {
    if (!/^[\x21-\x7e]+$/.test(token))
      throw new Error(`line ${index + 1} of the token file ${file} is not of printable ASCII without spaces`);
    if (token.length < MIN_TOKEN_LENGTH || token.length > MAX_TOKEN_LENGTH)
      throw new Error(
        `line ${index + 1} of the token file ${file} has ${token.length} characters: a token has ${MIN_TOKEN_LENGTH} to ${MAX_TOKEN_LENGTH}`,
      );
  }
  return tokens;
}

/** Throws where it cannot be read or is not right. */
export function readTokens(file: string): string[] {
  return parseTokens(readFileSync(file, 'utf8'), file);
}

const hash = (token: string): Buffer => createHash('sha256').update(token).digest();

/** Tokens that are taken, known by their SHA-256 alone. */
export class TokenSet {
  readonly #hashes: Buffer[];

  constructor(tokens: readonly string[]) {
    this.#hashes = tokens.map(hash);
  }

  /** The time that it takes tells nothing of how much of the token is right. */
  takes(token: string): boolean {
    return this.takesHash(hash(token));
  }

  takesHash(shown: Buffer): boolean {
    let taken = false;
    for (const known of this.#hashes) if (timingSafeEqual(known, shown)) taken = true;
    return taken;
  }
}

/** What is kept of a token that was taken, to see later whether it still is. */
export const tokenHash = hash;
