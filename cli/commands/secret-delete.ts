import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, YES_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';

export const secretDelete: CommandSpec = {
  name: 'secret delete',
  summary: 'delete a secret',
  description: 'Refused while a revision with traffic names it.',
  args: [{ name: 'name', description: 'name of the secret', completes: 'secret' }],
  options: [NAMESPACE_OPTION, YES_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn secret delete API_KEY', 'fn secret delete API_KEY -n shop --yes'],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const [{ connect }, { checkedSecretName, chosenNamespace }, { confirmed }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../prompts.ts'),
  ]);
  const namespace = chosenNamespace(ctx, input);
  const name = checkedSecretName(input.arg(0));
  if (!(await confirmed(ctx, `Delete the secret ${namespace}/${name}? Its value cannot be got back.`, input.flag('yes')))) {
    say(ctx, 'Nothing was deleted.');
    return EXIT.failed;
  }
  await connect(ctx).deleteSecret(namespace, name);
  say(ctx, `Deleted the secret ${namespace}/${name}.`);
  if (input.flag('json')) printJson(ctx, { deleted: true, namespace, name });
  return EXIT.ok;
}
