import type { ArgumentSpec, CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';

const ARGUMENTS: readonly ArgumentSpec[] = [
  { name: 'name', description: 'name of the function', completes: 'function' },
  { name: 'id', description: 'id of the invocation, as fn invoke --async printed it', completes: 'invocation' },
];
const options = [NAMESPACE_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION];
const EXAMPLE_ID = 'e-k3v9x0q2abk3v9x0q2abk3v9';

export const invocationShow: CommandSpec = {
  name: 'invocation show',
  summary: 'show what became of an invocation',
  args: ARGUMENTS,
  options,
  examples: [`fn invocation show hello ${EXAMPLE_ID}`, `fn invocation show hello ${EXAMPLE_ID} --json`],
  run: show,
};

export const invocationResult: CommandSpec = {
  name: 'invocation result',
  summary: 'print what the function answered to an invocation',
  description: 'The body to stdout, the status to stderr; 1 where the function answered 400 or above. It takes the scope deploy.',
  args: ARGUMENTS,
  options,
  examples: [`fn invocation result hello ${EXAMPLE_ID}`, `fn invocation result hello ${EXAMPLE_ID} --json`],
  run: result,
};

export const invocationCancel: CommandSpec = {
  name: 'invocation cancel',
  summary: 'call an invocation off; one that runs is abandoned',
  args: ARGUMENTS,
  options,
  examples: [`fn invocation cancel hello ${EXAMPLE_ID}`, `fn invocation cancel hello ${EXAMPLE_ID} -n shop`],
  run: cancel,
};

async function show(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { renderInvocation }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../invocation-view.ts'),
  ]);
  const view = await connect(ctx).events.invocation(chosenNamespace(ctx, input), input.arg(0), input.arg(1));
  if (input.flag('json')) printJson(ctx, view);
  else ctx.stdout.write(renderInvocation(view, Date.now()));
}

async function result(ctx: Context, input: Input): Promise<ExitCode> {
  const [{ connect }, { chosenNamespace }] = await Promise.all([import('../client.ts'), import('../names.ts')]);
  const answer = await connect(ctx).events.invocationResult(chosenNamespace(ctx, input), input.arg(0), input.arg(1));
  const body = Buffer.from(answer.body, 'base64');
  if (input.flag('json')) printJson(ctx, answer);
  else {
    ctx.stdout.write(body);
    if (ctx.stdout.isTTY === true && body.at(-1) !== NEWLINE) say(ctx, '');
    say(ctx, `${input.arg(0)} answered with ${answer.status}`);
  }
  return answer.status < 400 ? EXIT.ok : EXIT.failed;
}

const NEWLINE = 10;

async function cancel(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }] = await Promise.all([import('../client.ts'), import('../names.ts')]);
  const view = await connect(ctx).events.cancelInvocation(chosenNamespace(ctx, input), input.arg(0), input.arg(1));
  say(ctx, `Called off ${view.id}.`);
  if (input.flag('json')) printJson(ctx, view);
}
