import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, SINCE_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';

export const calls: CommandSpec = {
  name: 'calls',
  summary: 'list calls of a function: failed, slow, cold, and others',
  description: 'Of calls that go well only a sample is kept.',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [
    NAMESPACE_OPTION,
    { flags: '--failed', description: 'only those that failed' },
    { flags: '--slow', description: 'only slow ones' },
    { flags: '--cold', description: 'only those that waited for a start' },
    SINCE_OPTION,
    { flags: '--limit <n>', description: 'only the newest so many (default: 20)', parse: integerBetween(1, 1_000) },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn calls hello', 'fn calls hello --failed --since 1h', 'fn calls hello --slow --limit 5'],
  run,
};

/** Calls that are listed where nobody says how many. */
const DEFAULT_LIMIT = 20;

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { renderCalls }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../calls-view.ts'),
  ]);
  const since = input.number('since');
  const found = await connect(ctx).listCalls(chosenNamespace(ctx, input), input.arg(0), {
    failed: input.flag('failed'),
    slow: input.flag('slow'),
    cold: input.flag('cold'),
    limit: input.number('limit') ?? DEFAULT_LIMIT,
    ...(since === undefined ? {} : { since: Math.floor(since) }),
  });
  if (input.flag('json')) {
    printJson(ctx, { calls: found });
    return;
  }
  if (found.length === 0) {
    say(ctx, 'No such calls on record. Of calls that go well only a sample is kept.');
    return;
  }
  ctx.stdout.write(renderCalls(found));
  say(ctx, 'fn why REQUEST explains one of them.');
}
