import type { CommandSpec, Input } from '../command.ts';
import { JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';
import { ALL_OPTION, BASE_OPTION, IMAGES_ARGUMENT, chosenImages } from '../images-options.ts';

export const imagesPush: CommandSpec = {
  name: 'images push',
  summary: 'push the images to a registry, and print values for it',
  description:
    'Builds what is missing, tags it REPOSITORY/gateway and so on, and pushes it with the login that `docker login` keeps. Prints the values that the chart needs to pull these images, by digest.',
  args: [{ name: 'repository', description: 'where to, such as registry.example.com/fn' }, IMAGES_ARGUMENT],
  options: [ALL_OPTION, BASE_OPTION, JSON_OPTION],
  examples: ['fn images push registry.example.com/fn > values.yaml', 'fn images push localhost:5000/fn --all --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { askBuilder, chartValues } = await import('../images.ts');
  const pushed = await askBuilder(ctx, 'push', chosenImages(input, 1), ['--repository', input.arg(0)]);
  if (input.flag('json')) printJson(ctx, pushed);
  else ctx.stdout.write(chartValues(pushed));
}
