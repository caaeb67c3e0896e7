import type { PlatformStatus } from '#contract/api.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { painter, printJson } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';

export const status: CommandSpec = {
  name: 'status',
  summary: 'show what runs: processes, functions, instances, memory',
  options: [HOME_OPTION, JSON_OPTION],
  examples: ['fn status', 'fn status --context fn.example.com --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  let answer: PlatformStatus;
  try {
    answer = await connect(ctx).status();
  } catch (error) {
    if (input.flag('json') && error instanceof CliError && error.exitCode === EXIT.unreachable) printJson(ctx, { running: false });
    throw error;
  }
  if (input.flag('json')) {
    printJson(ctx, answer);
    return;
  }
  const { renderStatus } = await import('../status-view.ts');
  ctx.stdout.write(renderStatus(answer, painter(ctx.stdout, ctx.env)));
}
