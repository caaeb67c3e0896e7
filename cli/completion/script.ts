/**
 * Completion scripts, made from the commands' data. Commands, options and choices are in the script itself;
 * names that only the platform knows are asked for with `fn complete`, in the moment of the Tab.
 */
import type { CommandSpec } from '../command.ts';
import { bashScript } from './bash.ts';
import { fishScript } from './fish.ts';
import { commandModels, fullNames } from './model.ts';
import { zshScript } from './zsh.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** The script for a shell to evaluate. */
export function completionScript(shell: Shell, commands: readonly CommandSpec[], groups: Readonly<Record<string, string>>): string {
  const model = { commands: commandModels(commands), groups, aliases: fullNames(commands) };
  if (shell === 'fish') return fishScript(model);
  return shell === 'zsh' ? zshScript(model) : bashScript(model);
}
