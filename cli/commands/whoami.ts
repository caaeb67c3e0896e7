import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';
import { fields } from '../output.ts';

export const whoami: CommandSpec = {
  name: 'whoami',
  summary: 'show whose token is used, and what it may do',
  options: [CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn whoami', 'fn whoami --context fn.example.com --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const who = await connect(ctx).whoami();
  if (input.flag('json')) return printJson(ctx, who);
  const namespaces = who.namespaces === '*' ? 'all' : who.namespaces.join(', ');
  ctx.stdout.write(
    fields([
      ['id', who.id],
      ['name', who.name],
      ['scopes', who.scopes.join(', ')],
      ['namespaces', namespaces],
      ['platform', `fn ${who.version}`],
    ]),
  );
}
