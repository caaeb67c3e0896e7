import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, YES_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';
import { TRIGGER_ARGUMENTS } from './trigger-show.ts';

export const triggerRemove: CommandSpec = {
  name: 'trigger remove',
  summary: 'remove a trigger; what the broker has stays there',
  args: TRIGGER_ARGUMENTS,
  options: [NAMESPACE_OPTION, YES_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn trigger remove report cron', 'fn trigger remove orders redis-stream --yes'],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const [{ connect }, { chosenNamespace }, { confirmed }, { warnIfDeclared }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../prompts.ts'),
    import('../declared.ts'),
  ]);
  const namespace = chosenNamespace(ctx, input);
  const [name, trigger] = [input.arg(0), input.arg(1)];
  if (!(await confirmed(ctx, `Remove the trigger ${trigger} of ${namespace}/${name}?`, input.flag('yes')))) {
    say(ctx, 'Nothing was removed.');
    return EXIT.failed;
  }
  const client = connect(ctx);
  await warnIfDeclared(ctx, client, namespace, name);
  await client.events.removeTrigger(namespace, name, trigger);
  say(ctx, `Removed the trigger ${trigger} of ${namespace}/${name}.`);
  if (input.flag('json')) printJson(ctx, { removed: true, namespace, name, trigger });
  return EXIT.ok;
}
