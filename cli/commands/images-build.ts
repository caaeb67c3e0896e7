import type { CommandSpec, Input } from '../command.ts';
import { JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { print, printJson } from '../context.ts';
import { ALL_OPTION, BASE_OPTION, IMAGES_ARGUMENT, chosenImages } from '../images-options.ts';

export const imagesBuild: CommandSpec = {
  name: 'images build',
  summary: 'build the images that fn needs in a cluster',
  args: [IMAGES_ARGUMENT],
  options: [ALL_OPTION, { flags: '--force', description: 'also what is up to date' }, BASE_OPTION, JSON_OPTION],
  examples: ['fn images build', 'fn images build gateway,controller', 'fn images build --all --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { askBuilder } = await import('../images.ts');
  const built = await askBuilder(ctx, 'build', chosenImages(input), input.flag('force') ? ['--force'] : []);
  if (input.flag('json')) printJson(ctx, built);
  else for (const [name, image] of Object.entries(built)) print(ctx, `${name}  ${image}`);
}
