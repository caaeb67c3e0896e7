/** `fn login`: a token is checked where it is good for, and kept. */
import type { WhoAmI } from '#contract/tenancy.ts';
import type { ApiClient } from './client.ts';
import { clientOf } from './client.ts';
import type { Input } from './command.ts';
import type { Context } from './context.ts';
import { painter, printJson, say } from './context.ts';
import type { SavedContext } from './contexts.ts';
import { LOOPBACK, checkedContextName, checkedUrl, readContexts, requireContext, writeContexts } from './contexts.ts';
import { CliError, EXIT, usageError } from './errors.ts';
import { checkedNamespace } from './names.ts';
import { readHidden } from './prompts.ts';

export async function logIn(ctx: Context, input: Input): Promise<void> {
  const contexts = readContexts(ctx);
  const url = urlFor(ctx, input, contexts);
  const name = checkedContextName(input.text('context') ?? url.host);
  const said = input.text('namespace');
  const asked = said === undefined ? undefined : checkedNamespace(said);
  const gateway = gatewayFor(input, contexts.contexts[name]);
  if (url.protocol === 'http:' && !LOOPBACK.test(url.hostname))
    say(
      ctx,
      `${painter(ctx.stderr, ctx.env)('yellow', 'note:')} ${url.origin} is not encrypted: whoever is on the way can read the token.`,
    );
  const token = await readHidden(ctx, `Token for ${url.origin}`);
  const remote = { url: url.href.replace(/\/$/, ''), token, namespace: asked, from: 'that URL' };
  const who = await whoIs(clientOf(remote, ctx.signal), remote.url);
  const namespace = asked ?? onlyOne(who);
  const context = {
    url: remote.url,
    token,
    ...(namespace === undefined ? {} : { namespace }),
    ...(gateway === undefined ? {} : { gateway }),
  };
  writeContexts(ctx, { current: name, contexts: { ...contexts.contexts, [name]: context } });
  const where = who.namespaces === '*' ? 'all namespaces' : who.namespaces.join(', ');
  say(ctx, `Logged in to ${remote.url} as ${who.name}: ${who.scopes.join(', ')} for ${where}.`);
  say(ctx, `Commands speak to it from now on; fn context use NAME changes that.`);
  if (input.flag('json'))
    printJson(ctx, { context: name, url: remote.url, namespace: namespace ?? null, gateway: gateway ?? null, ...who });
}

/** Throws CliError that says what of it is wrong, the token or the address. */
async function whoIs(client: ApiClient, url: string): Promise<WhoAmI> {
  try {
    return await client.whoami();
  } catch (error) {
    if (!(error instanceof CliError) || error.exitCode === EXIT.unreachable) throw error;
    if (error.exitCode === EXIT.notAuthorised)
      throw new CliError(`${url} does not take this token (${error.code ?? 'unauthorized'})`, {
        exitCode: EXIT.notAuthorised,
        hint: 'It is mistyped, revoked or expired, or of another platform. fn token create makes one there; HOME/token of that platform is an admin’s, in Kubernetes the Secret NAME-api-token. Nothing was kept.',
        cause: error,
      });
    throw new CliError(`${url} does not answer as a control API: ${error.message}`, {
      details: error.details,
      hint: 'The control API is where --api of fn up says, in Kubernetes the Service NAME-api, not where functions are called. Nothing was kept.',
      cause: error,
    });
  }
}

const onlyOne = ({ namespaces }: WhoAmI): string | undefined => (namespaces !== '*' && namespaces.length === 1 ? namespaces[0] : undefined);

/** Where functions are called from here: what was typed, else what the context has already, for a new token. */
function gatewayFor(input: Input, before: SavedContext | undefined): string | undefined {
  const typed = input.text('gateway');
  return typed === undefined ? before?.gateway : checkedUrl(typed, '--gateway').origin;
}

/** What was typed, else the URL of the context that is named, or of the current one. */
function urlFor({ env }: Context, input: Input, contexts: ReturnType<typeof readContexts>): URL {
  const typed = input.optionalArg(0);
  if (typed !== undefined) return checkedUrl(typed, 'the argument');
  const name = input.text('context');
  if (name === undefined && env.FN_URL !== undefined && env.FN_URL !== '') return checkedUrl(env.FN_URL, 'FN_URL');
  const known = name ?? contexts.current;
  if (known === null) throw usageError('log in to which platform?', 'Name the URL of its control API: fn login URL');
  return checkedUrl(requireContext(contexts, known).url, `the URL of context ${known}`);
}
