import type { CommandSpec, Input } from '../command.ts';
import { JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { print, printJson, say } from '../context.ts';
import { usageError } from '../errors.ts';

export const runtimesBuild: CommandSpec = {
  name: 'runtimes build',
  summary: 'build runtime images whose inputs have changed',
  args: [
    { name: 'runtimes', description: 'which, between commas, such as node,python; without: node', optional: true, completes: 'runtime' },
  ],
  options: [
    { flags: '--all', description: 'every runtime that there is' },
    { flags: '--force', description: 'also what is up to date' },
    { flags: '--base <image>', description: 'root filesystem: an image from a registry, instead of Debian packages' },
    JSON_OPTION,
  ],
  examples: ['fn runtimes build python', 'fn runtimes build --all'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { buildImages, named } = await import('../supervisor/runtimes.ts');
  const base = input.text('base');
  const args = named(runtimeNames(input.optionalArg(0)));
  if (input.flag('all')) args.push('--all');
  if (input.flag('force')) args.push('--force');
  if (base !== undefined) args.push('--base', base);
  const { built } = await buildImages(args, ctx.env, (line) => say(ctx, line));
  if (input.flag('json')) printJson(ctx, built);
  else for (const [name, image] of Object.entries(built)) print(ctx, `${name}  ${image}`);
}

/** `node,python` → both. Throws usageError where one is not a name. */
export function runtimeNames(text: string | undefined): string[] {
  const names = (text ?? '').split(',').filter(Boolean);
  const wrong = names.find((name) => !/^[a-z0-9][a-z0-9-]{0,62}$/.test(name));
  if (wrong !== undefined) throw usageError(`${JSON.stringify(wrong)} is not the name of a runtime`, 'For example: node,python');
  return names;
}
