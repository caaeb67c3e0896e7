import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { DEFAULT_PORT } from './up.ts';

export const demo: CommandSpec = {
  name: 'demo',
  summary: 'start, deploy an example, call it cold, warm and cold',
  description: 'Leaves the platform running: fn down stops it.',
  options: [
    { flags: '--port <port>', description: 'port of the gateway', parse: integerBetween(0, 65_535), default: DEFAULT_PORT },
    { flags: '--driver <driver>', description: 'what runs instances', choices: ['auto', 'docker', 'process'], default: 'auto' },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn demo', 'fn demo --port 9000 --driver process'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const { runDemo } = await import('../demo.ts');
  const driver = input.text('driver');
  await runDemo(ctx, {
    port: input.number('port') ?? DEFAULT_PORT,
    driver: driver === 'docker' || driver === 'process' ? driver : 'auto',
    json: input.flag('json'),
  });
}
