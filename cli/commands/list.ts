import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { formatAge, table } from '../output.ts';

export const list: CommandSpec = {
  name: 'list',
  summary: 'list functions',
  options: [{ flags: '-n, --namespace <name>', description: 'only of this namespace' }, HOME_OPTION, JSON_OPTION],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const { checkedNamespace } = await import('../names.ts');
  const namespace = input.text('namespace');
  const functions = await connect(ctx).list(namespace === undefined ? undefined : checkedNamespace(namespace));
  if (input.flag('json')) {
    printJson(ctx, { functions });
    return;
  }
  if (functions.length === 0) {
    say(ctx, namespace === undefined ? 'No functions yet: fn deploy FILE' : `No functions in namespace ${namespace}.`);
    return;
  }
  const now = Date.now();
  ctx.stdout.write(
    table(
      [
        { title: 'NAMESPACE', value: (row) => row.namespace },
        { title: 'NAME', value: (row) => row.name },
        { title: 'REVISION', value: (row) => String(row.revision.number), align: 'right' },
        { title: 'FORM', value: (row) => row.revision.form },
        { title: 'MEMORY', value: (row) => `${row.revision.settings.memoryMib} MiB`, align: 'right' },
        { title: 'INSTANCES', value: (row) => String(row.instances), align: 'right' },
        { title: 'AGE', value: (row) => formatAge(Math.max(0, now - row.revision.createdAt) / 1_000), align: 'right' },
        { title: 'URL', value: (row) => row.url },
      ],
      functions,
    ),
  );
}
