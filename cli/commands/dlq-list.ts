import type { DeadLetterView } from '#contract/events.ts';
import type { CommandSpec, Input, OptionSpec } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';

export const DEAD_TRIGGER_OPTION: OptionSpec = {
  flags: '--trigger <name>',
  description: 'only those that this trigger brought',
  completes: 'trigger',
};

/** Dead letters of a function that are listed where nobody says how many. */
const DEFAULT_LIMIT = 20;
/** Functions that are asked at a time. */
const AT_ONCE = 8;

export const dlqList: CommandSpec = {
  name: 'dlq list',
  summary: 'list dead letters: events that failed for the last time',
  args: [{ name: 'name', description: 'name of the function; nothing: all of the namespace', optional: true, completes: 'function' }],
  options: [
    DEAD_TRIGGER_OPTION,
    { flags: '--limit <n>', description: 'only the newest so many (default: 20)', parse: integerBetween(1, 1_000) },
    { flags: '--before <id>', description: 'those that are older than this one: the next page', completes: 'dead-letter' },
    NAMESPACE_OPTION,
    CONTEXT_OPTION,
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn dlq list', 'fn dlq ls orders --trigger redis-stream --limit 100'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { renderDeadLetters }, { checkedEventId }, { usageError }, { atOnce }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../invocation-view.ts'),
    import('../events-client.ts'),
    import('../errors.ts'),
    import('../deploy-all.ts'),
  ]);
  const client = connect(ctx);
  const namespace = chosenNamespace(ctx, input);
  const name = input.optionalArg(0);
  const trigger = input.text('trigger');
  const before = input.text('before');
  if (before !== undefined && name === undefined) throw usageError('--before goes with the name of a function');
  const query = {
    limit: input.number('limit') ?? DEFAULT_LIMIT,
    ...(trigger === undefined ? {} : { trigger }),
    ...(before === undefined ? {} : { before: checkedEventId(before) }),
  };
  const names = name === undefined ? (await client.list(namespace)).map((view) => view.name) : [name];
  const lists = await atOnce(names, AT_ONCE, (one) => client.events.deadLetters(namespace, one, query));
  const deadLetters: DeadLetterView[] = lists.flatMap((list) => list.deadLetters).toSorted((a, b) => b.deadAt - a.deadAt);
  const total = lists.reduce((sum, list) => sum + list.total, 0);
  if (input.flag('json')) return printJson(ctx, { deadLetters, total });
  if (deadLetters.length === 0) return say(ctx, 'No dead letters.');
  ctx.stdout.write(renderDeadLetters(deadLetters, Date.now()));
  const { function: of, id } = deadLetters.at(-1)!;
  if (total > deadLetters.length) say(ctx, `${deadLetters.length} of ${total}; the next page: fn dlq list ${of} --before ${id}`);
  say(ctx, 'fn dlq show NAME ID has what was sent; fn dlq redrive tries again, fn dlq purge removes.');
}
