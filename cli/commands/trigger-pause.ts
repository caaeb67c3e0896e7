import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { TRIGGER_ARGUMENTS } from './trigger-show.ts';

const options = [NAMESPACE_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION];

export const triggerPause: CommandSpec = {
  name: 'trigger pause',
  summary: 'pause a trigger: what is in flight ends, no more is taken',
  description: 'It stays paused over deployments, unless fn.yaml says enabled of it.',
  args: TRIGGER_ARGUMENTS,
  options,
  examples: ['fn trigger pause orders redis-stream', 'fn trigger pause report cron -n shop'],
  run: (ctx, input) => enable(ctx, input, false),
};

export const triggerResume: CommandSpec = {
  name: 'trigger resume',
  summary: 'resume a trigger that was paused',
  args: TRIGGER_ARGUMENTS,
  options,
  examples: ['fn trigger resume orders redis-stream', 'fn trigger resume report cron --json'],
  run: (ctx, input) => enable(ctx, input, true),
};

async function enable(ctx: Context, input: Input, enabled: boolean): Promise<void> {
  const [{ connect }, { chosenNamespace }] = await Promise.all([import('../client.ts'), import('../names.ts')]);
  const [name, trigger] = [input.arg(0), input.arg(1)];
  const view = await connect(ctx).events.enableTrigger(chosenNamespace(ctx, input), name, trigger, enabled);
  say(ctx, `${enabled ? 'Resumed' : 'Paused'} the trigger ${trigger} of ${name}.`);
  if (input.flag('json')) printJson(ctx, view);
}
