import type { CallRecord } from '#contract/call.ts';
import { wasCold } from '#contract/call.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, SINCE_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { chosenNamespace } from '../names.ts';
import { formatMs, printable, table } from '../output.ts';

export const calls: CommandSpec = {
  name: 'calls',
  summary: 'list calls of a function: failed, slow, cold, and others',
  description: 'Of calls that go well only a sample is kept.',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [
    NAMESPACE_OPTION,
    { flags: '--failed', description: 'only those that failed' },
    { flags: '--slow', description: 'only slow ones' },
    { flags: '--cold', description: 'only those that waited for a start' },
    SINCE_OPTION,
    { flags: '--limit <n>', description: 'only the newest so many (default: 20)', parse: integerBetween(1, 1_000) },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn calls hello', 'fn calls hello --failed --since 1h', 'fn calls hello --slow --limit 5'],
  run,
};

/** Calls that are listed where nobody says how many. */
const DEFAULT_LIMIT = 20;

async function run(ctx: Context, input: Input): Promise<void> {
  const { connect } = await import('../client.ts');
  const since = input.number('since');
  const found = await connect(ctx).listCalls(chosenNamespace(ctx, input), input.arg(0), {
    failed: input.flag('failed'),
    slow: input.flag('slow'),
    cold: input.flag('cold'),
    limit: input.number('limit') ?? DEFAULT_LIMIT,
    ...(since === undefined ? {} : { since: Math.floor(since) }),
  });
  if (input.flag('json')) {
    printJson(ctx, { calls: found });
    return;
  }
  if (found.length === 0) {
    say(ctx, 'No such calls on record. Of calls that go well only a sample is kept.');
    return;
  }
  ctx.stdout.write(renderCalls(found));
  say(ctx, 'fn why REQUEST explains one of them.');
}

export function renderCalls(found: readonly CallRecord[]): string {
  return table(
    [
      { title: 'TIME', value: ({ t }) => new Date(t).toISOString().slice(0, 23).replace('T', ' ') },
      { title: 'STATUS', value: ({ status, aborted }) => (status === 0 || aborted === true ? 'gone' : String(status)), align: 'right' },
      { title: 'TOOK', value: ({ totalMs }) => formatMs(totalMs), align: 'right' },
      { title: 'START', value: (call) => (wasCold(call) ? call.start!.kind : call.instance === undefined ? '-' : 'warm') },
      { title: 'REVISION', value: ({ revision }) => revision?.slice(revision.lastIndexOf('@') + 1) ?? '-', align: 'right' },
      { title: 'INSTANCE', value: ({ instance }) => instance ?? '-' },
      { title: 'REQUEST', value: ({ id }) => printable(id) },
      { title: 'WHAT', value: ({ method, path, code }) => printable(`${method} ${path}${code === undefined ? '' : ` ${code}`}`) },
    ],
    found,
  );
}
