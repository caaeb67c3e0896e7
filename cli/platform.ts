/** `fn up` for commands that need it: `up` itself and `demo`. */
import { homePaths } from '#kit/paths.ts';
import type { Context } from './context.ts';
import { painter, say } from './context.ts';
import type { SupervisorState } from './state.ts';
import { findRunning, startDetached } from './supervisor/launch.ts';
import type { Report, SupervisorOptions } from './supervisor/options.ts';

/** Steps as lines of talk. */
export function tellSteps(ctx: Context): Report {
  const paint = painter(ctx.stderr, ctx.env);
  return (event) => {
    if (event.type === 'step') say(ctx, `${paint('dim', '·')} ${event.text}`);
  };
}

/** The platform of this home, started if it does not run. */
export async function ensureUp(ctx: Context, options: SupervisorOptions): Promise<{ state: SupervisorState; started: boolean }> {
  const running = await findRunning(homePaths(ctx.home), ctx.signal);
  if (running !== null) return { state: running, started: false };
  ctx.patience(120_000);
  return { state: await startDetached(ctx, options, tellSteps(ctx)), started: true };
}
