import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';

export const dlqShow: CommandSpec = {
  name: 'dlq show',
  summary: 'show a dead letter: why it failed, and what was sent',
  description: 'What was sent is user data, so it takes the scope deploy.',
  args: [
    { name: 'name', description: 'name of the function', completes: 'function' },
    { name: 'id', description: 'id of the dead letter', completes: 'dead-letter' },
  ],
  options: [NAMESPACE_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: [
    'fn dlq show orders e-k3v9x0q2abk3v9x0q2abk3v9',
    'fn dlq show orders e-k3v9x0q2abk3v9x0q2abk3v9 --json | jq -r .body | base64 -d',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { renderDeadLetter }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../invocation-view.ts'),
  ]);
  const letter = await connect(ctx).events.deadLetter(chosenNamespace(ctx, input), input.arg(0), input.arg(1));
  if (input.flag('json')) printJson(ctx, letter);
  else ctx.stdout.write(renderDeadLetter(letter, Date.now()));
}
