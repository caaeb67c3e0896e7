import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { formatAge, table } from '../output.ts';

export const secretList: CommandSpec = {
  name: 'secret list',
  summary: 'list secrets: names, versions, users; never a value',
  options: [NAMESPACE_OPTION, CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn secret list', 'fn secret ls -n shop --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const { chosenNamespace } = await import('../names.ts');
  const namespace = chosenNamespace(ctx, input);
  const secrets = await connect(ctx).secrets(namespace);
  if (input.flag('json')) return printJson(ctx, { secrets });
  if (secrets.length === 0) return say(ctx, `No secrets in namespace ${namespace}.`);
  const now = Date.now();
  ctx.stdout.write(
    table(
      [
        { title: 'NAME', value: (row) => row.name },
        { title: 'VERSION', value: (row) => String(row.version), align: 'right' },
        { title: 'AGE', value: (row) => formatAge(Math.max(0, now - row.updatedAt) / 1_000), align: 'right' },
        { title: 'USED BY', value: (row) => row.usedBy.join(', ') || '–' },
      ],
      secrets,
    ),
  );
}
