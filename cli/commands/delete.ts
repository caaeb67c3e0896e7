import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, YES_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';

export const deleteCommand: CommandSpec = {
  name: 'delete',
  summary: 'delete a function and all its revisions',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [NAMESPACE_OPTION, YES_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn delete hello', 'fn delete api -n shop --yes'],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const { connect } = await import('../client.ts');
  const { chosenNamespace } = await import('../names.ts');
  const { warnIfDeclared } = await import('../declared.ts');
  const { confirmed, isInteractive } = await import('../prompts.ts');
  const namespace = chosenNamespace(ctx, input);
  const name = input.arg(0);
  const client = connect(ctx);
  if (!input.flag('yes') && isInteractive(ctx)) {
    const { revisions } = await client.describe(namespace, name);
    if (
      !(await confirmed(ctx, `Delete ${namespace}/${name} with ${revisions.length} revision${revisions.length === 1 ? '' : 's'}?`, false))
    ) {
      say(ctx, 'Nothing was deleted.');
      return EXIT.failed;
    }
  }
  await warnIfDeclared(ctx, client, namespace, name);
  await client.delete(namespace, name);
  say(ctx, `Deleted ${namespace}/${name}.`);
  if (input.flag('json')) printJson(ctx, { deleted: true, namespace, name });
  return EXIT.ok;
}
