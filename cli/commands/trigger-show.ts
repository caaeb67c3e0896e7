import type { ArgumentSpec, CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';

/** Arguments of commands that are about one trigger. */
export const TRIGGER_ARGUMENTS: readonly ArgumentSpec[] = [
  { name: 'name', description: 'name of the function', completes: 'function' },
  { name: 'trigger', description: 'name of the trigger', completes: 'trigger' },
];

export const triggerShow: CommandSpec = {
  name: 'trigger show',
  summary: 'show a trigger: its settings, and how it does',
  args: TRIGGER_ARGUMENTS,
  options: [NAMESPACE_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn trigger show report cron', 'fn trigger show orders redis-stream --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { renderTrigger }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../trigger-view.ts'),
  ]);
  const view = await connect(ctx).events.trigger(chosenNamespace(ctx, input), input.arg(0), input.arg(1));
  if (input.flag('json')) printJson(ctx, view);
  else ctx.stdout.write(renderTrigger(view, Date.now()));
}
