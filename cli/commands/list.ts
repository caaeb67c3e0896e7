import type { FunctionView } from '#contract/function.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { formatAge, table } from '../output.ts';

export const list: CommandSpec = {
  name: 'list',
  summary: 'list functions',
  options: [{ ...NAMESPACE_OPTION, description: 'only of this namespace (default: FN_NAMESPACE, or all)' }, HOME_OPTION, JSON_OPTION],
  examples: ['fn list', 'fn ls -n shop --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const { saidNamespace } = await import('../names.ts');
  const namespace = saidNamespace(ctx, input);
  const functions = await connect(ctx).list(namespace);
  if (input.flag('json')) {
    printJson(ctx, { functions });
    return;
  }
  if (functions.length === 0) {
    say(ctx, namespace === undefined ? 'No functions yet: fn deploy FILE' : `No functions in namespace ${namespace}.`);
    return;
  }
  const now = Date.now();
  const triggers = { title: 'TRIGGERS', value: (row: FunctionView) => triggerTypes(row) };
  ctx.stdout.write(
    table(
      [
        { title: 'NAMESPACE', value: (row) => row.namespace },
        { title: 'NAME', value: (row) => row.name },
        { title: 'REVISION', value: (row) => row.traffic.map(trafficWords).join(' '), align: 'right' },
        { title: 'RUNTIME', value: (row) => row.revision.settings.runtime },
        { title: 'FORM', value: (row) => row.revision.form },
        { title: 'MEMORY', value: (row) => `${row.revision.settings.memoryMib} MiB`, align: 'right' },
        { title: 'AUTH', value: (row) => row.access.auth.type },
        ...(functions.some(({ access }) => access.triggers.length > 0) ? [triggers] : []),
        { title: 'INSTANCES', value: (row) => String(row.instances), align: 'right' },
        { title: 'AGE', value: (row) => formatAge(Math.max(0, now - row.revision.createdAt) / 1_000), align: 'right' },
        { title: 'URL', value: (row) => row.url },
      ],
      functions,
    ),
  );
}

/** `cron, redis-stream (paused)`; each type once. */
function triggerTypes({ access }: FunctionView): string {
  const words = access.triggers.map(({ type, enabled }) => (enabled ? type : `${type} (paused)`));
  return [...new Set(words)].join(', ') || '–';
}

/** `7`, or `7:90%` where it is not all of it. */
const trafficWords = ({ revision, percent }: FunctionView['traffic'][number]): string =>
  percent === 100 ? `${revision}` : `${revision}:${percent}%`;
