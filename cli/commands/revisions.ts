import type { RevisionView } from '#contract/api.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';
import { formatAge, printable, table } from '../output.ts';

export const revisions: CommandSpec = {
  name: 'revisions',
  summary: 'list the revisions of a function, the newest first',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [NAMESPACE_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn revisions api', 'fn revisions api -n shop --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const { chosenNamespace } = await import('../names.ts');
  const kept = await connect(ctx).revisions(chosenNamespace(ctx, input), input.arg(0));
  if (input.flag('json')) printJson(ctx, { revisions: kept });
  else ctx.stdout.write(renderRevisions(kept, Date.now()));
}

/** A line for each, with its share of the traffic. */
export function renderRevisions(kept: readonly RevisionView[], now: number): string {
  return table(
    [
      { title: 'REVISION', value: (row) => String(row.number), align: 'right' },
      { title: 'TRAFFIC', value: (row) => (row.percent === 0 ? '–' : `${row.percent}%`), align: 'right' },
      { title: 'AGE', value: (row) => formatAge(Math.max(0, now - row.createdAt) / 1_000), align: 'right' },
      { title: 'INSTANCES', value: (row) => String(row.instances), align: 'right' },
      { title: 'RUNTIME', value: (row) => row.settings.runtime },
      { title: 'PREVIEW', value: (row) => row.previewUrl },
      { title: 'MESSAGE', value: (row) => printable(row.message ?? '').replaceAll('\n', ' ') },
    ],
    kept,
  );
}
