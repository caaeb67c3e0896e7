import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';

export const stats: CommandSpec = {
  name: 'stats',
  summary: 'what functions use: CPU, memory, calls, cold starts',
  description:
    'Totals since a function is there, over all its revisions and restarts of the platform; kept for a week after it was deleted.',
  args: [
    {
      name: 'name',
      description: 'name of a function: its revisions one by one (default: all functions)',
      optional: true,
      completes: 'function',
    },
  ],
  options: [{ ...NAMESPACE_OPTION, description: 'only of this namespace (default: FN_NAMESPACE, or all)' }, HOME_OPTION, JSON_OPTION],
  examples: ['fn stats', 'fn stats hello', 'fn stats -n shop --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { checkedName, chosenNamespace, saidNamespace }, { renderFunctionStats, renderStats }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../stats-view.ts'),
  ]);
  const name = input.optionalArg(0);
  if (name !== undefined) {
    const found = await connect(ctx).functionStats(chosenNamespace(ctx, input), checkedName(name));
    if (input.flag('json')) printJson(ctx, found);
    else ctx.stdout.write(renderFunctionStats(found));
    return;
  }
  const namespace = saidNamespace(ctx, input);
  const found = await connect(ctx).stats(namespace);
  if (input.flag('json')) {
    printJson(ctx, found);
    return;
  }
  if (found.functions.length === 0 && found.pool === null) {
    say(ctx, namespace === undefined ? 'No functions yet: fn deploy FILE' : `No functions in namespace ${namespace}.`);
    return;
  }
  ctx.stdout.write(renderStats(found));
  if (found.source === 'none') say(ctx, 'CPU and memory in use are not known here: see `fn status`.');
}
