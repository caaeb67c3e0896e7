import type { CommandSpec, Input } from '../command.ts';
import type { Context } from '../context.ts';

export const completion: CommandSpec = {
  name: 'completion',
  summary: 'print a script that completes commands, options and names',
  description: 'Names of functions, secrets, revisions and the like are looked up on the platform when Tab is pressed.',
  args: [{ name: 'shell', description: 'which shell', choices: ['bash', 'zsh', 'fish'] }],
  examples: [
    'source <(fn completion bash)                                     # in ~/.bashrc',
    'source <(fn completion zsh)                                      # in ~/.zshrc, after compinit',
    'fn completion fish > ~/.config/fish/completions/fn.fish',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { SHELLS, completionScript } = await import('../completion/script.ts');
  const { COMMANDS, GROUPS } = await import('./index.ts');
  const shell = SHELLS.find((known) => known === input.arg(0))!;
  ctx.stdout.write(completionScript(shell, COMMANDS, GROUPS));
}
