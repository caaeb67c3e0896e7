import type { TokenView } from '#contract/tenancy.ts';
import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { formatAge, printable, table } from '../output.ts';

export const tokenList: CommandSpec = {
  name: 'token list',
  summary: 'list tokens, the newest first; never a token itself',
  options: [CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn token list', 'fn token ls --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const tokens = await connect(ctx).tokens();
  if (input.flag('json')) return printJson(ctx, { tokens });
  if (tokens.length === 0) return say(ctx, 'No tokens yet: fn token create NAME --scope deploy');
  const now = Date.now();
  ctx.stdout.write(
    table(
      [
        { title: 'ID', value: (row) => row.id },
        { title: 'NAME', value: (row) => printable(row.name).replaceAll('\n', ' ') },
        { title: 'SCOPES', value: (row) => row.scopes.join(',') },
        { title: 'NAMESPACES', value: (row) => (row.namespaces === '*' ? '*' : row.namespaces.join(',')) },
        { title: 'AGE', value: (row) => formatAge(Math.max(0, now - row.createdAt) / 1_000), align: 'right' },
        { title: 'STATE', value: (row) => stateOf(row, now) },
      ],
      tokens,
    ),
  );
}

/** What is left of it. */
export function stateOf({ revokedAt, expiresAt }: Pick<TokenView, 'revokedAt' | 'expiresAt'>, now: number): string {
  if (revokedAt !== null) return 'revoked';
  if (expiresAt === null) return 'good';
  return expiresAt <= now ? 'expired' : `good for ${formatAge((expiresAt - now) / 1_000)}`;
}
