import type { CreateTokenRequestInput, Scope } from '#contract/tenancy.ts';
import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, parseDuration } from '../command.ts';
import type { Context } from '../context.ts';
import { print, printJson, say } from '../context.ts';
import { usageError } from '../errors.ts';

const SCOPES: readonly Scope[] = ['read', 'invoke', 'deploy', 'admin'];

export const tokenCreate: CommandSpec = {
  name: 'token create',
  summary: 'make a token; it is printed once, on stdout',
  args: [{ name: 'name', description: 'what it is for, such as ci' }],
  options: [
    { flags: '--scope <scope>', description: 'what it may do; several times for several', repeatable: true, choices: SCOPES },
    {
      ...NAMESPACE_OPTION,
      description: 'namespace that it is for; several times for several (default: FN_NAMESPACE, or default)',
      repeatable: true,
    },
    { flags: '--all-namespaces', description: 'for every namespace, also those to come' },
    { flags: '--expires <duration>', description: 'until when it is good, such as 12h or 90d (default: until it is revoked)' },
    CONTEXT_OPTION,
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn token create ci --scope deploy -n shop --expires 90d', 'fn token create monitoring --scope read --all-namespaces'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { checkedNamespace, defaultNamespace }] = await Promise.all([import('../client.ts'), import('../names.ts')]);
  const scopes = input
    .list('scope')
    .flatMap((text) => text.split(','))
    .map(scopeOf);
  if (scopes.length === 0) throw usageError('what may the token do? --scope is missing', `One of: ${SCOPES.join(', ')}.`);
  const named = input.list('namespace').map(checkedNamespace);
  if (named.length > 0 && input.flag('allNamespaces')) throw usageError('--namespace and --all-namespaces exclude each other');
  const expires = input.text('expires');
  const request: CreateTokenRequestInput = {
    name: input.arg(0),
    scopes,
    namespaces: input.flag('allNamespaces') ? '*' : named.length > 0 ? named : [defaultNamespace(ctx)],
    expiresAt: expires === undefined ? null : Date.now() + Math.round(parseDuration(expires)),
  };
  const created = await connect(ctx).createToken(request);
  const where = created.namespaces === '*' ? 'all namespaces' : created.namespaces.join(', ');
  say(ctx, `Made ${created.id}: ${created.scopes.join(', ')} for ${where}. It is shown this once:`);
  if (input.flag('json')) printJson(ctx, created);
  else print(ctx, created.token);
}

function scopeOf(text: string): Scope {
  const scope = SCOPES.find((one) => one === text);
  if (scope === undefined) throw usageError(`${JSON.stringify(text)} is not a scope`, `One of: ${SCOPES.join(', ')}.`);
  return scope;
}
