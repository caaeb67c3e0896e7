import { once } from 'node:events';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';

export const deleteCommand: CommandSpec = {
  name: 'delete',
  summary: 'delete a function and all its revisions',
  args: [{ name: 'name', description: 'name of the function' }],
  options: [NAMESPACE_OPTION, { flags: '-y, --yes', description: 'do not ask' }, HOME_OPTION, JSON_OPTION],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const { connect } = await import('../client.ts');
  const { chosenNamespace } = await import('../names.ts');
  const namespace = chosenNamespace(ctx, input);
  const name = input.arg(0);
  const client = connect(ctx);
  // Only a person at a terminal is asked; a script has said what it wants.
  if (!input.flag('yes') && ctx.stdin.isTTY === true && ctx.stderr.isTTY === true) {
    const { revisions } = await client.describe(namespace, name);
    const { confirm } = await import('@clack/prompts');
    // At the end of input the question would stay open, with nothing left that keeps the process running.
    const ended = once(process, 'beforeExit').then(() => Symbol('the end of input'));
    const asked = confirm({
      message: `Delete ${namespace}/${name} with ${revisions.length} revision${revisions.length === 1 ? '' : 's'}?`,
      initialValue: false,
    });
    const answer = await Promise.race([asked, ended]);
    if (typeof answer === 'symbol') return EXIT.interrupted;
    if (!answer) {
      say(ctx, 'Nothing was deleted.');
      return EXIT.failed;
    }
  }
  await client.delete(namespace, name);
  say(ctx, `Deleted ${namespace}/${name}.`);
  if (input.flag('json')) printJson(ctx, { deleted: true, namespace, name });
  return EXIT.ok;
}
