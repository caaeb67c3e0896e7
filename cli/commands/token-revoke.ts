import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { usageError } from '../errors.ts';

export const tokenRevoke: CommandSpec = {
  name: 'token revoke',
  summary: 'revoke a token, at once and for good',
  args: [{ name: 'id', description: 'its id, t-…, as fn token list shows it', completes: 'token' }],
  options: [CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn token revoke t-k3v9x0q2ab1f', 'fn token revoke t-k3v9x0q2ab1f --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { TokenId }] = await Promise.all([import('../client.ts'), import('#contract/names.ts')]);
  const id = input.arg(0);
  if (!TokenId.safeParse(id).success)
    // What was typed may be a token, which must not be shown again.
    throw usageError('that is not the id of a token: t- and 12 characters', 'fn token list shows the ids.');
  await connect(ctx).revokeToken(id);
  say(ctx, `Revoked ${id}.`);
  if (input.flag('json')) printJson(ctx, { revoked: true, id });
}
