import type { CommandSpec, Input } from '../command.ts';
import type { Context } from '../context.ts';
import { usageError } from '../errors.ts';

export const completion: CommandSpec = {
  name: 'completion',
  summary: 'print a script that completes fn’s commands and options',
  args: [{ name: 'shell', description: 'bash, zsh or fish' }],
  examples: ['source <(fn completion bash)', 'fn completion fish > ~/.config/fish/completions/fn.fish'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { SHELLS, completionScript } = await import('../completion.ts');
  const { COMMANDS } = await import('./index.ts');
  const shell = SHELLS.find((known) => known === input.arg(0));
  if (shell === undefined) throw usageError(`there is no completion for ${JSON.stringify(input.arg(0))}`, `Shells: ${SHELLS.join(', ')}.`);
  ctx.stdout.write(completionScript(shell, COMMANDS));
}
