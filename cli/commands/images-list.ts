import type { CommandSpec, Input } from '../command.ts';
import { JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';
import { ALL_OPTION, BASE_OPTION, IMAGES_ARGUMENT, chosenImages } from '../images-options.ts';
import { formatBytes, table } from '../output.ts';

export const imagesList: CommandSpec = {
  name: 'images list',
  summary: 'list the images of this version, and which are built',
  args: [IMAGES_ARGUMENT],
  options: [ALL_OPTION, BASE_OPTION, JSON_OPTION],
  examples: ['fn images list', 'fn images ls --all --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { askBuilder } = await import('../images.ts');
  const listed = await askBuilder(ctx, 'list', chosenImages(input));
  if (input.flag('json')) {
    printJson(ctx, listed);
    return;
  }
  ctx.stdout.write(
    table(
      [
        { title: 'NAME', value: ([name]) => name },
        { title: 'IMAGE', value: ([, { image }]) => image },
        { title: 'SIZE', value: ([, { bytes }]) => (bytes === null ? 'not built' : formatBytes(bytes)) },
      ],
      Object.entries(listed),
    ),
  );
}
