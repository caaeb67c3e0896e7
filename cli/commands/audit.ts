import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, SINCE_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { printable, table } from '../output.ts';

/** Entries that one question to the API brings. */
const PAGE = 1_000;

export const audit: CommandSpec = {
  name: 'audit',
  summary: 'show who changed what, and who tried to',
  options: [
    { ...NAMESPACE_OPTION, description: 'only of this namespace' },
    SINCE_OPTION,
    { flags: '--limit <n>', description: 'only the newest so many (default: 50)', parse: integerBetween(1, 100_000) },
    CONTEXT_OPTION,
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn audit --since 24h', 'fn audit -n shop --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { checkedNamespace }] = await Promise.all([import('../client.ts'), import('../names.ts')]);
  const namespace = input.text('namespace');
  const since = input.number('since');
  const limit = input.number('limit') ?? 50;
  const query = {
    ...(namespace === undefined ? {} : { namespace: checkedNamespace(namespace) }),
    ...(since === undefined ? {} : { since: Math.floor(since) }),
  };
  const client = connect(ctx);
  const entries = await client.audit({ ...query, limit: Math.min(limit, PAGE) });
  let page = entries;
  while (page.length === PAGE && entries.length < limit) {
    page = await client.audit({ ...query, before: entries.at(-1)!.id, limit: Math.min(PAGE, limit - entries.length) });
    entries.push(...page);
  }
  if (input.flag('json')) return printJson(ctx, { entries });
  if (entries.length === 0) return say(ctx, 'Nothing was changed.');
  ctx.stdout.write(
    table(
      [
        { title: 'TIME', value: (row) => new Date(row.t).toISOString().replace(/\.\d+Z$/, 'Z') },
        { title: 'BY', value: (row) => (row.by.id === row.by.name ? row.by.id : `${row.by.id} ${plain(row.by.name)}`) },
        { title: 'ACTION', value: (row) => plain(row.action) },
        { title: 'NAMESPACE', value: (row) => row.namespace ?? '–' },
        { title: 'SUBJECT', value: (row) => plain(row.subject) },
        { title: 'OUTCOME', value: (row) => plain(row.outcome) },
      ],
      entries,
    ),
  );
}

const plain = (text: string): string => printable(text).replaceAll('\n', ' ');
