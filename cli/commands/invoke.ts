import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import type { ExitCode } from '../errors.ts';

export const invoke: CommandSpec = {
  name: 'invoke',
  summary: 'call a function through the gateway, print the body',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [
    { flags: '-d, --data <data>', description: 'body: text, @FILE, or - for stdin; makes it a POST' },
    { flags: '-X, --method <method>', description: 'HTTP method (default: GET, or POST with --data)' },
    { flags: '-H, --header <name: value>', description: 'header', repeatable: true },
    { flags: '--path <path>', description: 'rest of the path, with the query', default: '/' },
    { flags: '-i, --include', description: 'print status and headers before the body' },
    NAMESPACE_OPTION,
    HOME_OPTION,
    { ...JSON_OPTION, description: 'print status, headers, body and times as JSON on stdout' },
  ],
  examples: [
    'fn invoke hello',
    'fn invoke hello -d \'{"name":"Ada"}\'',
    'fn invoke api --path /users?limit=3 -H "accept: text/csv" > users.csv',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const { invokeFunction } = await import('../invoke.ts');
  const { chosenNamespace } = await import('../names.ts');
  return invokeFunction(ctx, {
    namespace: chosenNamespace(ctx, input),
    name: input.arg(0),
    data: input.text('data'),
    method: input.text('method'),
    headers: input.list('header'),
    path: input.text('path') ?? '/',
    include: input.flag('include'),
    json: input.flag('json'),
  });
}
