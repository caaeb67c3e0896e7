import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson, say } from '../context.ts';
import { renderRevisions } from './revisions.ts';

export const traffic: CommandSpec = {
  name: 'traffic',
  summary: 'show or set how revisions share a function’s requests',
  args: [
    { name: 'name', description: 'name of the function', completes: 'function' },
    {
      name: 'share',
      description: 'REVISION=PERCENT, or latest=PERCENT; they sum up to 100',
      optional: true,
      variadic: true,
      completes: 'share',
    },
  ],
  options: [
    NAMESPACE_OPTION,
    { flags: '--sticky <how>', description: 'what keeps a client on one revision: cookie, header:NAME, none' },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn traffic api', 'fn traffic api 7=90 8=10 --sticky cookie', 'fn traffic api latest=100'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { parseShares, parseSticky, stickyText }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../traffic.ts'),
  ]);
  const client = connect(ctx);
  const namespace = chosenNamespace(ctx, input);
  const name = input.arg(0);
  const words = input.rest(1);
  const how = input.text('sticky');
  const sticky = how === undefined ? undefined : parseSticky(how);
  let view = await client.describe(namespace, name);
  const shares = words.length === 0 ? null : parseShares(words, view.revisions);
  // Before the shares: who is moved by them is to be kept where they are moved to.
  if (sticky !== undefined) view = await client.setAccess(namespace, name, { ...view.access, sticky }, view.etag);
  if (shares) view = await client.setTraffic(namespace, name, shares, view.etag);
  if (shares !== null || sticky !== undefined) (await import('../declared.ts')).warnDeclared(ctx, view);
  const revisions = await client.revisions(namespace, name);
  if (input.flag('json')) {
    printJson(ctx, { namespace, name, traffic: view.traffic, sticky: view.access.sticky, etag: view.etag, revisions });
    return;
  }
  ctx.stdout.write(renderRevisions(revisions, Date.now()));
  say(ctx, `sticky  ${stickyText(view.access.sticky)}`);
}
