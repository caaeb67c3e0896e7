import type { CommandSpec } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';

export const schema: CommandSpec = {
  name: 'schema',
  summary: 'print the JSON Schema of fn.yaml, for editors',
  options: [],
  description: 'Then, as the first line of fn.yaml: # yaml-language-server: $schema=./fn.schema.json',
  examples: ['fn schema', 'fn schema > fn.schema.json'],
  run,
};

async function run(ctx: Context): Promise<void> {
  const { manifestJsonSchema } = await import('#contract/manifest.ts');
  printJson(ctx, manifestJsonSchema());
}
