import type { CommandSpec, Input } from '../command.ts';
import { JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { print, printJson } from '../context.ts';
import { version as fnVersion } from '../version.ts';

export const version: CommandSpec = {
  name: 'version',
  summary: 'print the versions of fn and of the Node it runs on',
  options: [JSON_OPTION],
  examples: ['fn version', 'fn version --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  if (input.flag('json')) printJson(ctx, { fn: fnVersion(), node: process.versions.node });
  else print(ctx, `fn ${fnVersion()} (node ${process.versions.node})`);
}
