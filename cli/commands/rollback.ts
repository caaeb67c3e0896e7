import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { print, printJson, say } from '../context.ts';

export const rollback: CommandSpec = {
  name: 'rollback',
  summary: 'give all requests to an older revision, at once',
  description: 'Builds nothing. Without a number: to the one before the newest that gets any requests.',
  args: [
    { name: 'name', description: 'name of the function', completes: 'function' },
    {
      name: 'revision',
      description: 'its number (default: the one before the newest that gets any)',
      optional: true,
      completes: 'revision',
    },
  ],
  options: [NAMESPACE_OPTION, HOME_OPTION, JSON_OPTION],
  examples: ['fn rollback api', 'fn rollback api 7'],
  run,
};

const MAX_REVISION = 9_999_999_999;

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { noSuchRevision, revisionBefore, trafficText }, { formatMs }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../traffic.ts'),
    import('../output.ts'),
  ]);
  const typed = input.optionalArg(1);
  const wanted = typed === undefined ? undefined : integerBetween(1, MAX_REVISION)(typed.replace(/^@/, ''));
  const client = connect(ctx);
  const namespace = chosenNamespace(ctx, input);
  const name = input.arg(0);
  const startedAt = performance.now();
  const before = await client.describe(namespace, name);
  const to = wanted ?? revisionBefore(before);
  if (!before.revisions.includes(to)) throw noSuchRevision(to, before.revisions);
  const view = await client.setTraffic(namespace, name, [{ revision: to, percent: 100 }], before.etag);
  (await import('../declared.ts')).warnDeclared(ctx, view);
  say(ctx, `${name}: ${trafficText(before.traffic)} → ${to} in ${formatMs(performance.now() - startedAt)}`);
  if (input.flag('json')) printJson(ctx, { namespace, name, from: before.traffic, to: view.traffic, function: view });
  else print(ctx, view.url);
}
