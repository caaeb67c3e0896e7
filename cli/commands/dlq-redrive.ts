import type { DeadLetterSelection } from '#contract/events.ts';
import type { ArgumentSpec, CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, YES_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';
import { DEAD_TRIGGER_OPTION } from './dlq-list.ts';

const ARGUMENTS: readonly ArgumentSpec[] = [
  { name: 'name', description: 'name of the function', completes: 'function' },
  { name: 'id', description: 'ids of dead letters', optional: true, variadic: true, completes: 'dead-letter' },
];
const ALL_OPTION = { flags: '--all', description: 'all of the function, or with --trigger all of that' };

export const dlqRedrive: CommandSpec = {
  name: 'dlq redrive',
  summary: 'try dead letters again, with all their attempts before them',
  args: ARGUMENTS,
  options: [ALL_OPTION, DEAD_TRIGGER_OPTION, NAMESPACE_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn dlq redrive orders --all --trigger redis-stream', 'fn dlq redrive orders e-k3v9x0q2abk3v9x0q2abk3v9'],
  run: redrive,
};

export const dlqPurge: CommandSpec = {
  name: 'dlq purge',
  summary: 'remove dead letters for good',
  args: ARGUMENTS,
  options: [ALL_OPTION, DEAD_TRIGGER_OPTION, NAMESPACE_OPTION, YES_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn dlq purge orders --all', 'fn dlq purge orders e-k3v9x0q2abk3v9x0q2abk3v9 --yes'],
  run: purge,
};

/** Which ones are meant. Throws usageError where nobody says, or two things are said. */
async function selectionOf(input: Input): Promise<DeadLetterSelection> {
  const [{ checkedEventId }, { usageError }] = await Promise.all([import('../events-client.ts'), import('../errors.ts')]);
  const ids = input.rest(1).map(checkedEventId);
  const trigger = input.text('trigger');
  if (ids.length > 0 && (input.flag('all') || trigger !== undefined))
    throw usageError('say ids, or --all with or without --trigger; not both');
  if (ids.length > 0) return { ids };
  if (!input.flag('all')) throw usageError('say which: ids, or --all', 'fn dlq list shows them.');
  return { all: true, ...(trigger === undefined ? {} : { trigger }) };
}

const counted = (count: number): string => `${count} dead ${count === 1 ? 'letter' : 'letters'}`;

async function redrive(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }] = await Promise.all([import('../client.ts'), import('../names.ts')]);
  const name = input.arg(0);
  const count = await connect(ctx).events.redrive(chosenNamespace(ctx, input), name, await selectionOf(input));
  say(ctx, count === 0 ? 'There was nothing to try again.' : `${counted(count)} of ${name} ${count === 1 ? 'is' : 'are'} tried again.`);
  if (input.flag('json')) printJson(ctx, { count });
}

async function purge(ctx: Context, input: Input): Promise<ExitCode> {
  const [{ connect }, { chosenNamespace }, { confirmed }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../prompts.ts'),
  ]);
  const namespace = chosenNamespace(ctx, input);
  const name = input.arg(0);
  const selection = await selectionOf(input);
  const what =
    'ids' in selection
      ? counted(selection.ids.length)
      : `all dead letters${selection.trigger === undefined ? '' : ` of ${selection.trigger}`}`;
  if (!(await confirmed(ctx, `Remove ${what} of ${namespace}/${name} for good?`, input.flag('yes')))) {
    say(ctx, 'Nothing was removed.');
    return EXIT.failed;
  }
  const count = await connect(ctx).events.purge(namespace, name, selection);
  say(ctx, `Removed ${counted(count)} of ${namespace}/${name}.`);
  if (input.flag('json')) printJson(ctx, { count });
  return EXIT.ok;
}
