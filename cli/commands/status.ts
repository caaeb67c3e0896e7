import type { PlatformStatus } from '#contract/api.ts';
import { plannedPaths } from '#kit/paths.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { painter, printJson } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { runningState } from '../state.ts';
import type { Processes } from '../status-view.ts';

export const status: CommandSpec = {
  name: 'status',
  summary: 'show what runs: processes, functions, instances, memory',
  options: [HOME_OPTION, JSON_OPTION],
  examples: ['fn status', 'fn status --context fn.example.com --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const client = connect(ctx);
  let answer: PlatformStatus;
  try {
    answer = await client.status();
  } catch (error) {
    if (input.flag('json') && error instanceof CliError && error.exitCode === EXIT.unreachable) printJson(ctx, { running: false });
    throw error;
  }
  if (input.flag('json')) {
    printJson(ctx, answer);
    return;
  }
  const { renderStatus } = await import('../status-view.ts');
  ctx.stdout.write(renderStatus(answer, painter(ctx.stdout, ctx.env), client.isLocal ? processesOf(ctx) : {}));
}

/** What the supervisor of this machine has started. */
function processesOf(ctx: Context): Processes {
  return runningState(plannedPaths(ctx.home))?.children ?? {};
}
