/**
 * Platforms that somebody has logged in to: contexts, in a file of the user's that only they can read.
 * Which platform a command speaks to: --context, --home, FN_URL with FN_TOKEN, FN_HOME, the current
 * context, the home; the first that is said. A token is sent only to the URL that it came with.
 */
import { chmodSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { Namespace } from '#contract/names.ts';
import type { Context } from './context.ts';
import { CliError, EXIT, usageError } from './errors.ts';

/** A name of a context is shown in tables and typed in shells. */
const ContextName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:@-]{0,99}$/, 'must be 1–100 letters, digits, and . _ : @ -');

export const SavedContext = z.object({
  url: z.string(),
  token: z.string(),
  /** What commands are about that name no namespace. */
  namespace: Namespace.optional(),
  /** Where functions are called from here, where the platform's own URL leads nowhere: a port that is forwarded. */
  gateway: z.string().optional(),
});
export type SavedContext = z.infer<typeof SavedContext>;

const ContextsFile = z.object({ current: z.string().nullable(), contexts: z.record(ContextName, SavedContext) });
export type Contexts = z.infer<typeof ContextsFile>;

const NONE: Contexts = { current: null, contexts: {} };

/** Where they are kept; null where the user has no home. */
export function contextsPath({ env }: Pick<Context, 'env'>): string | null {
  const folder = env.XDG_CONFIG_HOME || (env.HOME ? join(env.HOME, '.config') : undefined);
  return folder === undefined ? null : join(folder, 'fn', 'contexts.json');
}

/** Throws CliError where the file could have been read by others, or does not hold contexts. */
export function readContexts(ctx: Pick<Context, 'env'>): Contexts {
  const path = contextsPath(ctx);
  if (path === null) return NONE;
  let text: string;
  try {
    if ((lstatSync(path).mode & 0o077) !== 0)
      throw new CliError(`${path} holds tokens, and others can read it`, { hint: `chmod 600 ${path}`, exitCode: EXIT.usage });
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return NONE;
    throw error;
  }
  const parsed = ContextsFile.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new CliError(`${path} does not hold contexts of fn`, { hint: 'Move it away and log in again: fn login URL', exitCode: EXIT.usage });
}

/** Writes the whole file: mode 0600, by rename, so that nobody reads half of it. */
export function writeContexts(ctx: Pick<Context, 'env'>, contexts: Contexts): void {
  const path = contextsPath(ctx);
  if (path === null) throw usageError('there is no place for contexts: neither XDG_CONFIG_HOME nor HOME is set');
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}`;
  try {
    writeFileSync(temporary, `${JSON.stringify(contexts, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    chmodSync(temporary, 0o600);
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Throws usageError for a name that none can have. */
export function checkedContextName(name: string): string {
  const result = ContextName.safeParse(name);
  if (!result.success)
    throw usageError(`${JSON.stringify(name)} is not the name of a context: it ${result.error.issues[0]?.message ?? ''}`);
  return name;
}

/** Throws usageError where nobody has logged in under that name. */
export function requireContext({ contexts }: Contexts, name: string): SavedContext {
  const found = Object.hasOwn(contexts, name) ? contexts[name] : undefined;
  if (found !== undefined) return found;
  const names = Object.keys(contexts).toSorted();
  throw usageError(
    `there is no context ${JSON.stringify(name)}`,
    names.length === 0 ? 'fn login URL makes one.' : `There is: ${names.join(', ')}. fn login URL makes another.`,
  );
}

/** Hosts that no network is between: a token may go there in the clear. */
export const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/;

/** A control API over TCP, and who said so. */
export interface Remote {
  url: string;
  token: string | undefined;
  namespace: string | undefined;
  /** Where functions are called from here; undefined: where the platform says. */
  gateway?: string | undefined;
  /** `FN_URL`, or `context NAME`. */
  from: string;
}

/** The platform that a command speaks to, where it is not the home's own. */
export function remoteOf(ctx: Pick<Context, 'env' | 'said'>): Remote | null {
  const { env, said } = ctx;
  const named = (name: string, contexts = readContexts(ctx)): Remote => {
    return { namespace: undefined, ...requireContext(contexts, name), from: `context ${name}` };
  };
  if (said?.context !== undefined) return named(said.context);
  if (said?.home === true) return null;
  if (env.FN_URL !== undefined && env.FN_URL !== '') return { url: env.FN_URL, token: env.FN_TOKEN, namespace: undefined, from: 'FN_URL' };
  if (env.FN_HOME !== undefined && env.FN_HOME !== '') return null;
  const contexts = readContexts(ctx);
  return contexts.current === null ? null : named(contexts.current, contexts);
}

/** Throws usageError for what no header can carry, without showing it. */
export function checkedToken(token: string | undefined, from: string): string | undefined {
  if (token !== undefined && !/^[\u0021-\u007e]*$/.test(token)) throw usageError(`the token (${from}) holds characters that no token has`);
  return token;
}

/** Throws usageError where it is no URL of HTTP. */
export function checkedUrl(url: string, from: string): URL {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw usageError(`${from} is not an http(s) URL: ${url}`);
  const parsed = new URL(url);
  if (parsed.username !== '' || parsed.password !== '')
    throw usageError(`${from} must not hold a user or a password: a token says who you are`);
  return parsed;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON: the schema says so in better words.
    return undefined;
  }
}
