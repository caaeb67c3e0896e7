import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, parseDuration } from '../command.ts';
import type { Context } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import type { InvokeOptions } from '../invoke.ts';

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
    { flags: '--async', description: 'answer later: prints an id once it is durable' },
    { flags: '--wait', description: 'with --async: until it is over, then print the result' },
    { flags: '--idempotency-key <key>', description: 'with --async: the same key a second time makes no second invocation' },
    { flags: '--order-key <key>', description: 'with --async: one at a time and in order, of those with the same key' },
    { flags: '--delay <time>', description: 'with --async: not before so long: 30s, 5m, 2h', parse: parseDuration },
    NAMESPACE_OPTION,
    HOME_OPTION,
    { ...JSON_OPTION, description: 'print status, headers, body and times as JSON on stdout' },
  ],
  examples: [
    'fn invoke hello',
    'fn invoke hello --async --wait',
    'fn invoke hello --async --delay 30s --idempotency-key order-17 -d @order.json',
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
    later: await laterFrom(input),
  });
}

/** Throws usageError for what goes with --async alone. */
async function laterFrom(input: Input): Promise<InvokeOptions['later']> {
  const [idempotencyKey, orderKey, delayMs] = [input.text('idempotencyKey'), input.text('orderKey'), input.number('delay')];
  if (input.flag('async')) return { idempotencyKey, orderKey, delayMs, wait: input.flag('wait') };
  const { usageError } = await import('../errors.ts');
  const stray = ['idempotencyKey', 'orderKey', 'delay', 'wait'].find((option) => input.has(option));
  if (stray === undefined) return null;
  throw usageError(`--${stray.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} goes with --async`);
}
