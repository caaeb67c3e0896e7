import { resolve } from 'node:path';
import type { CommandSpec, Input } from '../command.ts';
import { JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import type { ImagePlace } from '../images.ts';
import { ALL_OPTION, BASE_OPTION, IMAGES_ARGUMENT, chosenImages } from '../images-options.ts';

export const imagesSave: CommandSpec = {
  name: 'images save',
  summary: 'write the images to a file that nodes can import',
  description:
    'Builds what is missing and writes one archive, as of docker save, for clusters without a registry: `ctr --namespace k8s.io images import FILE` on each node. Prints the values that the chart needs for these images.',
  args: [{ name: 'file', description: 'the archive, such as images.tar', completes: 'file' }, IMAGES_ARGUMENT],
  options: [ALL_OPTION, BASE_OPTION, JSON_OPTION],
  examples: ['fn images save images.tar > values.yaml', 'fn images save node.tar node'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { askBuilder, chartValues } = await import('../images.ts');
  const file = resolve(ctx.cwd, input.arg(0));
  const saved = await askBuilder(ctx, 'save', chosenImages(input, 1), ['--file', file]);
  say(ctx, `wrote ${file}`);
  if (input.flag('json')) {
    printJson(ctx, { file, images: Object.fromEntries(Object.entries(saved).map(([name, { image }]) => [name, image])) });
    return;
  }
  const places = Object.entries(saved).map(([name, { image, kind }]): [string, ImagePlace] => {
    const colon = image.lastIndexOf(':');
    return [name, { kind, repository: image.slice(0, colon), tag: image.slice(colon + 1) }];
  });
  ctx.stdout.write(chartValues(Object.fromEntries(places)));
}
