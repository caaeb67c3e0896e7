/** `fn secret set`: values from a prompt, stdin or files; nothing is sent before all are good. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { SecretView } from '#contract/tenancy.ts';
import { MAX_SECRET_BYTES } from '#contract/tenancy.ts';
import type { ApiClient } from './client.ts';
import { connect } from './client.ts';
import type { Input } from './command.ts';
import type { Context } from './context.ts';
import { printJson, say } from './context.ts';
import { readAssignments } from './env-file.ts';
import { CliError, usageError } from './errors.ts';
import { checkedSecretName, chosenNamespace } from './names.ts';
import { readHidden, utf8 } from './prompts.ts';

export async function setSecrets(ctx: Context, input: Input): Promise<void> {
  const namespace = chosenNamespace(ctx, input);
  const values = await valuesFrom(ctx, input);
  const client = connect(ctx);
  const before = await versionsOf(client, namespace);
  const set: SecretView[] = [];
  for (const [name, value] of values) {
    const view = await client.setSecret(namespace, name, value);
    set.push(view);
    if (before.get(name) === view.version) {
      say(ctx, `${namespace}/${name} has this value already, version ${view.version}: nothing changed.`);
      continue;
    }
    const users = view.usedBy.length === 0 ? '' : `; used by ${view.usedBy.join(', ')}, whose instances are replaced now`;
    say(ctx, `Set ${namespace}/${name}, version ${view.version}${users}.`);
  }
  if (input.flag('json')) printJson(ctx, { secrets: set });
}

/** By name; a value that is the same keeps its version. */
async function versionsOf(client: ApiClient, namespace: string): Promise<Map<string, number>> {
  try {
    return new Map((await client.secrets(namespace)).map(({ name, version }) => [name, version]));
  } catch (error) {
    // Its first secret makes the namespace.
    if (error instanceof CliError && error.code === 'namespace-not-found') return new Map();
    throw error;
  }
}

/** All that is to be set, checked before anything is sent. Never says a value. */
async function valuesFrom(ctx: Context, input: Input): Promise<[string, string][]> {
  const names = input.rest(0);
  const file = input.text('file');
  const envFile = input.text('envFile');
  if (names.length > 1 || names[0]?.includes('=') === true) {
    throw usageError(
      'a value does not belong on the command line: every user of this machine can see it there, and the shell keeps it',
      'Nothing was sent. Type `fn secret set NAME`, and the value when it asks; or: fn secret set NAME < FILE',
    );
  }
  const [name] = names;
  if (envFile !== undefined) {
    if (name !== undefined || file !== undefined) throw usageError('--env-file names its secrets itself: leave out NAME and --file');
    const entries = Object.entries(readAssignments(utf8(contentOf(ctx, envFile), envFile), envFile));
    if (entries.length === 0) throw usageError(`${envFile} holds no NAME=VALUE`);
    return entries.map(([key, value]) => [checkedSecretName(key), checkedValue(key, value)]);
  }
  if (name === undefined) throw usageError('which secret? fn secret set NAME', 'fn secret set --help says more.');
  checkedSecretName(name);
  const value = file === undefined ? await readHidden(ctx, `Value of ${name}`) : utf8(contentOf(ctx, file), file);
  return [[name, checkedValue(name, value)]];
}

function contentOf({ cwd }: Context, path: string): Buffer {
  try {
    return readFileSync(resolve(cwd, path));
  } catch (error) {
    throw usageError(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function checkedValue(name: string, value: string): string {
  if (Buffer.byteLength(value) > MAX_SECRET_BYTES) throw usageError(`the value of ${name} has more than ${MAX_SECRET_BYTES} bytes`);
  if (value.includes('\0')) throw usageError(`the value of ${name} holds NUL, which no variable can`);
  return value;
}
