import type { InvocationState } from '#contract/events.ts';
import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';

/** As the contract has them; named here so that the help costs no schema (a test compares them). */
export const INVOCATION_STATES = ['queued', 'running', 'retrying', 'succeeded', 'failed', 'cancelled'] as const satisfies InvocationState[];

/** Invocations that are listed where nobody says how many. */
const DEFAULT_LIMIT = 20;

export const invocationList: CommandSpec = {
  name: 'invocation list',
  summary: 'list invocations of a function that are answered later',
  description: 'Those that wait or run, and those that are over and still kept (async.resultSeconds). The newest first.',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [
    { flags: '--state <state>', description: 'only those that are in this state', choices: INVOCATION_STATES },
    { flags: '--limit <n>', description: 'only the newest so many (default: 20)', parse: integerBetween(1, 1_000) },
    NAMESPACE_OPTION,
    CONTEXT_OPTION,
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn invocation list hello', 'fn invocation ls hello --state failed --limit 100'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { renderInvocations }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../invocation-view.ts'),
  ]);
  const said = input.text('state');
  const state = INVOCATION_STATES.find((one) => one === said);
  const limit = input.number('limit') ?? DEFAULT_LIMIT;
  const invocations = await connect(ctx).events.invocations(chosenNamespace(ctx, input), input.arg(0), {
    limit,
    ...(state === undefined ? {} : { state }),
  });
  if (input.flag('json')) return printJson(ctx, { invocations });
  if (invocations.length === 0) return say(ctx, `No such invocations. fn invoke ${input.arg(0)} --async makes one.`);
  ctx.stdout.write(renderInvocations(invocations, Date.now()));
}
