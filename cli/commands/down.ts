import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';

/** Above the supervisor's own deadlines: a second Ctrl-C still ends the waiting. */
const PATIENCE_MS = 1_000;

const WORDS = {
  stopped: 'fn is down. What was deployed is kept: fn up brings it back.',
  'cleaned-up': 'fn was not running; what it had left behind is removed.',
  'was-not-running': 'fn is not running.',
} as const;

export const down: CommandSpec = {
  name: 'down',
  summary: 'stop everything; deployed functions are kept',
  options: [HOME_OPTION, JSON_OPTION],
  examples: ['fn down', 'fn down --home /srv/fn'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { bringDown } = await import('../supervisor/down.ts');
  const { homePaths } = await import('#kit/paths.ts');
  ctx.patience(PATIENCE_MS);
  const result = await bringDown(homePaths(ctx.home), ctx.env);
  say(ctx, WORDS[result]);
  if (input.flag('json')) printJson(ctx, { running: false, wasRunning: result === 'stopped' });
}
