import type { FunctionView } from '#contract/function.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';
import { fields } from '../output.ts';

export const describe: CommandSpec = {
  name: 'describe',
  summary: 'show a function: its revision, settings and instances',
  args: [{ name: 'name', description: 'name of the function' }],
  options: [NAMESPACE_OPTION, HOME_OPTION, JSON_OPTION],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const view = await connect(ctx).describe(input.text('namespace') ?? 'default', input.arg(0));
  if (input.flag('json')) printJson(ctx, view);
  else ctx.stdout.write(renderFunction(view));
}

/** Names of environment variables are shown, their values are not: --json gives them to who asks. */
export function renderFunction({ namespace, name, url, revision, revisions, instances }: FunctionView): string {
  const { settings } = revision;
  return fields([
    ['name', `${namespace}/${name}`],
    ['url', url],
    ['revision', `${name}@${revision.number}, deployed ${new Date(revision.createdAt).toISOString()}`],
    ['revisions', revisions.join(', ')],
    ['form', revision.form],
    ['runtime', settings.runtime],
    ['bundle', `${revision.bundle} (${revision.entry})`],
    ['memory', `${settings.memoryMib} MiB`],
    ['cpu', `${settings.cpu} cores`],
    ['timeout', `${settings.timeoutSeconds} s`],
    ['concurrency', `${settings.concurrency} per instance`],
    ['instances', `${instances} now; from ${settings.min} to ${settings.max}`],
    ['keep-alive', `${settings.keepAliveSeconds} s`],
    ['egress', Array.isArray(settings.egress) ? settings.egress.join(', ') : settings.egress],
    ['env', Object.keys(settings.env).join(', ') || 'none'],
  ]);
}
