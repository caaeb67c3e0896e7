import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';

export const triggerList: CommandSpec = {
  name: 'trigger list',
  summary: 'list triggers: how each does, and how far it is behind',
  description: 'Where one fails, the reason of its broker stands below the table. Counts are since it was started.',
  args: [{ name: 'name', description: 'name of the function; nothing: all of the namespace', optional: true, completes: 'function' }],
  options: [NAMESPACE_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn trigger list', 'fn trigger ls orders --json'],
  run,
};

/** A trigger must be of some kind; this is the shortest. */
const EXAMPLE = "--cron '@daily' (others: fn trigger add --help)";

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { renderTriggers }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../trigger-view.ts'),
  ]);
  const namespace = chosenNamespace(ctx, input);
  const name = input.optionalArg(0) ?? null;
  const triggers = await connect(ctx).events.triggers(namespace, name);
  if (input.flag('json')) return printJson(ctx, { triggers });
  if (triggers.length === 0)
    return say(
      ctx,
      name === null
        ? `No triggers in namespace ${namespace}: fn trigger add NAME ${EXAMPLE}`
        : `${name} has no triggers: fn trigger add ${name} ${EXAMPLE}`,
    );
  ctx.stdout.write(renderTriggers(triggers, Date.now()));
}
