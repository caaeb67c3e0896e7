import type { CommandSpec, Input } from '../command.ts';
import type { Context } from '../context.ts';
import { printJson } from '../context.ts';

export const schema: CommandSpec = {
  name: 'schema',
  summary: 'print the JSON Schema of fn.yaml, for editors',
  options: [{ flags: '--kubernetes', description: 'the definition of the kind Function for a cluster, as YAML' }],
  description: 'Then, as the first line of fn.yaml: # yaml-language-server: $schema=./fn.schema.json',
  examples: ['fn schema', 'fn schema > fn.schema.json', 'fn schema --kubernetes | kubectl apply -f -'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  if (input.flag('kubernetes')) {
    const { functionCrdText } = await import('../crd-text.ts');
    ctx.stdout.write(functionCrdText());
    return;
  }
  const { manifestJsonSchema } = await import('#contract/manifest.ts');
  printJson(ctx, manifestJsonSchema());
}
