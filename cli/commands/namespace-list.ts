import type { NamespaceView } from '#contract/tenancy.ts';
import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';
import { formatBytes, table } from '../output.ts';

export const namespaceList: CommandSpec = {
  name: 'namespace list',
  summary: 'list namespaces: use, quotas and hosts',
  options: [CONTEXT_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn namespace list', 'fn namespace list --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const namespaces = await connect(ctx).namespaces();
  if (input.flag('json')) printJson(ctx, { namespaces });
  else ctx.stdout.write(renderNamespaces(namespaces));
}

const limit = (value: number | null, unit = ''): string => (value === null ? '–' : `${value}${unit}`);

/** A line for each; `used/limit` where there is a limit. */
export function renderNamespaces(namespaces: readonly NamespaceView[]): string {
  const used = (value: number, of: number | null, unit = '') => `${value}${of === null ? '' : `/${of}`}${unit}`;
  return table(
    [
      { title: 'NAME', value: (row) => row.name },
      { title: 'FUNCTIONS', value: ({ usage, quota }) => used(usage.functions, quota.functions), align: 'right' },
      { title: 'MEMORY', value: ({ usage, quota }) => used(usage.memoryMib, quota.memoryMib, ' MiB'), align: 'right' },
      { title: 'CONCURRENCY', value: ({ quota }) => limit(quota.concurrency), align: 'right' },
      { title: 'REQUESTS', value: ({ quota }) => limit(quota.requestsPerSecond, '/s'), align: 'right' },
      { title: 'BUNDLE', value: ({ quota }) => (quota.bundleBytes === null ? '–' : formatBytes(quota.bundleBytes)), align: 'right' },
      { title: 'HOSTS', value: ({ hosts }) => hosts.join(', ') || '–' },
      { title: 'NETWORKS', value: ({ networks }) => (networks === null ? 'default' : networks.join(', ') || 'none') },
    ],
    namespaces,
  );
}
