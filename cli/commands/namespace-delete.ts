import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';

export const namespaceDelete: CommandSpec = {
  name: 'namespace delete',
  summary: 'delete a namespace that is empty, its quota and its hosts',
  args: [{ name: 'name', description: 'name of the namespace', completes: 'namespace' }],
  options: [CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn namespace delete shop', 'fn namespace rm shop --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const name = input.arg(0);
  await connect(ctx).deleteNamespace(name);
  say(ctx, `Deleted the namespace ${name}.`);
  if (input.flag('json')) printJson(ctx, { deleted: true, name });
}
