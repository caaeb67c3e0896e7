import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';
import { table } from '../output.ts';

export const runtimesList: CommandSpec = {
  name: 'runtimes list',
  summary: 'list the runtimes of the running platform',
  options: [HOME_OPTION, JSON_OPTION],
  examples: ['fn runtimes list', 'fn runtimes ls --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const { runtimes } = await connect(ctx).status();
  if (input.flag('json')) {
    printJson(ctx, { runtimes });
    return;
  }
  ctx.stdout.write(
    table(
      [
        { title: 'RUNTIME', value: (row) => row.name },
        { title: 'VERSION', value: (row) => row.version },
        { title: 'IMAGE', value: (row) => row.image ?? '–' },
      ],
      runtimes,
    ),
  );
}
