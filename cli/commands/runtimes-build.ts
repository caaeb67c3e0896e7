import type { CommandSpec, Input } from '../command.ts';
import { JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { print, printJson, say } from '../context.ts';

export const runtimesBuild: CommandSpec = {
  name: 'runtimes build',
  summary: 'build runtime images whose inputs have changed',
  args: [{ name: 'runtime', description: 'only this one, such as node', optional: true }],
  options: [
    { flags: '--force', description: 'also what is up to date' },
    { flags: '--base <image>', description: 'root filesystem: an image from a registry, instead of Debian packages' },
    JSON_OPTION,
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { buildImages } = await import('../supervisor/runtimes.ts');
  const args: string[] = [];
  const runtime = input.optionalArg(0);
  const base = input.text('base');
  if (runtime !== undefined) args.push('--runtime', runtime);
  if (input.flag('force')) args.push('--force');
  if (base !== undefined) args.push('--base', base);
  const images = await buildImages(args, ctx.env, (line) => say(ctx, line));
  if (input.flag('json')) printJson(ctx, images);
  else for (const [name, image] of Object.entries(images)) print(ctx, `${name}  ${image}`);
}
