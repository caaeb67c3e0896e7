import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { homeFlag, printJson, say } from '../context.ts';

/** Above the supervisor's own deadlines: a second Ctrl-C still ends the waiting. */
const PATIENCE_MS = 1_000;

const WORDS = {
  stopped: (home: string, flag: string) => `fn is down (${home}). What was deployed is kept: fn up${flag} brings it back.`,
  'cleaned-up': (home: string) => `fn was not running in ${home}; what it had left behind is removed.`,
  'was-not-running': (home: string) => `fn is not running in ${home}.`,
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
  const { plannedPaths } = await import('#kit/paths.ts');
  ctx.patience(PATIENCE_MS);
  const paths = plannedPaths(ctx.home);
  const result = await bringDown(paths, ctx.env);
  say(ctx, WORDS[result](paths.home, homeFlag(ctx)));
  if (result !== 'was-not-running') await tellHeld(ctx, paths.homeId);
  await tellRemote(ctx);
  if (input.flag('json')) printJson(ctx, { running: false, wasRunning: result === 'stopped', home: paths.home });
}

/** All else is gone; of this only Docker's restart makes an end. */
async function tellHeld(ctx: Context, homeId: string): Promise<void> {
  const { heldNetwork } = await import('../supervisor/held-network.ts');
  const name = await heldNetwork(homeId, ctx.env);
  if (name === null) return;
  say(
    ctx,
    `note: Docker does not let go of the network ${name}, though nothing is on it: it has miscounted. It does no harm, and goes once Docker has been restarted: docker network rm ${name}`,
  );
}

/** Other commands speak to that platform: whoever meant it must read that it runs on. */
async function tellRemote(ctx: Context): Promise<void> {
  const { remoteOf } = await import('../contexts.ts');
  const remote = remoteOf(ctx);
  if (remote !== null)
    say(ctx, `note: other commands speak to ${remote.url} (${remote.from}); fn down stops only this machine's, that one runs on`);
}
