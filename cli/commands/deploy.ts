import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, integerBetween, numberBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { painter, print, printJson, say } from '../context.ts';

export const deploy: CommandSpec = {
  name: 'deploy',
  summary: 'bundle a function and put it live; prints its URL',
  args: [{ name: 'path', description: 'source file, or folder with package.json or index.ts, handler.js, …' }],
  options: [
    { flags: '--name <name>', description: 'name of the function (default: from the path)' },
    NAMESPACE_OPTION,
    { flags: '--runtime <name>', description: 'runtime (default: node)' },
    { flags: '--memory <mib>', description: 'memory of an instance, MiB (default: 128)', parse: integerBetween(64, 8_192, 'MiB') },
    { flags: '--cpu <cores>', description: 'CPU of an instance, cores (default: 1)', parse: numberBetween(0.05, 64, 'cores') },
    { flags: '--timeout <seconds>', description: 'longest time of a request (default: 30)', parse: numberBetween(0.1, 3_600, 'seconds') },
    {
      flags: '--concurrency <n>',
      description: 'requests at a time per instance (default: 1 for the Lambda form, else 50)',
      parse: integerBetween(1, 1_000),
    },
    { flags: '--min <n>', description: 'instances that are always ready (default: 0)', parse: integerBetween(0, 1_000) },
    { flags: '--max <n>', description: 'most instances at a time (default: 100)', parse: integerBetween(1, 1_000) },
    {
      flags: '--keep-alive <seconds>',
      description: 'how long an idle instance is kept (default: 300)',
      parse: numberBetween(0, 86_400, 'seconds'),
    },
    { flags: '--egress <where>', description: 'none, internet, or networks: 10.1.2.0/24,192.0.2.7' },
    { flags: '-e, --env <name=value>', description: 'environment variable', repeatable: true },
    { flags: '--env-file <file>', description: 'file of NAME=VALUE lines; --env wins' },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn deploy ./handler.ts', 'fn deploy ./api --name api --memory 256 --env STAGE=prod'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { deploy: deployFunction }, { settingsFrom }] = await Promise.all([
    import('../client.ts'),
    import('../deploy.ts'),
    import('../settings.ts'),
  ]);
  const result = await deployFunction({
    client: connect(ctx),
    path: input.arg(0),
    cwd: ctx.cwd,
    namespace: input.text('namespace') ?? 'default',
    name: input.text('name'),
    settings: settingsFrom(input, ctx.cwd),
    say: (line) => say(ctx, line),
    paint: painter(ctx.stderr, ctx.env),
  });
  if (input.flag('json')) printJson(ctx, result);
  else print(ctx, result.url);
}
