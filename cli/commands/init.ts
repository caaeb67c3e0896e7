import { resolve } from 'node:path';
import type { CommandSpec, Input } from '../command.ts';
import { JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { painter, print, printJson, say } from '../context.ts';
import { CliError, EXIT, usageError } from '../errors.ts';
import type { Template } from '../init/templates.ts';

export const init: CommandSpec = {
  name: 'init',
  summary: 'make a folder with a new function, from a template',
  args: [
    {
      name: 'template',
      description: 'what to begin with: a language or a form; without it, asks or lists',
      optional: true,
      completes: 'template',
    },
    { name: 'dir', description: 'folder to make (default: the name of the template)', optional: true, completes: 'folder' },
  ],
  options: [{ flags: '--list', description: 'list the templates' }, JSON_OPTION],
  examples: ['fn init', 'fn init hono my-api', 'fn init python', 'fn init --list'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ templates, findTemplate }, { createProject }] = await Promise.all([import('../init/templates.ts'), import('../init/create.ts')]);
  const all = templates();
  const wanted = input.optionalArg(0);
  const interactive = ctx.stdin.isTTY === true && ctx.stderr.isTTY === true;
  if (input.flag('list') || (wanted === undefined && !interactive)) {
    await listTemplates(ctx, input, all);
    // Who asks for JSON gets what was asked for: the list.
    if (!input.flag('list') && !input.flag('json')) throw usageError('which template?', 'Name one: fn init TEMPLATE [DIR]');
    return;
  }
  const template = wanted === undefined ? await ask(all) : findTemplate(wanted, all);
  if (template === null) {
    const { didYouMean } = await import('../manifest/similar.ts');
    const names = all.map(({ name }) => name);
    throw usageError(`there is no template ${wanted}${didYouMean(wanted ?? '', names)}`, `There is: ${names.join(', ')}.`);
  }
  const created = createProject(template, resolve(ctx.cwd, input.optionalArg(1) ?? template.name), ctx.cwd);
  if (input.flag('json')) {
    printJson(ctx, { template: template.name, ...created });
    return;
  }
  print(ctx, created.folder);
  const paint = painter(ctx.stderr, ctx.env);
  for (const file of created.files) say(ctx, `  ${paint('dim', file)}`);
  say(ctx, `\nNext:\n${created.next.map((step) => `  ${step}`).join('\n')}`);
}

async function listTemplates(ctx: Context, input: Input, all: readonly Template[]): Promise<void> {
  if (input.flag('json')) {
    printJson(ctx, { templates: all.map(({ name, language, summary }) => ({ name, language, summary })) });
    return;
  }
  const { table } = await import('../output.ts');
  ctx.stdout.write(
    table<Template>(
      [
        { title: 'TEMPLATE', value: ({ name }) => name },
        { title: 'LANGUAGE', value: ({ language }) => language },
        { title: 'WHAT', value: ({ summary }) => summary },
      ],
      all,
    ),
  );
}

async function ask(all: readonly Template[]): Promise<Template> {
  const { select, isCancel } = await import('@clack/prompts');
  const chosen = await select({
    message: 'What do you want to begin with?',
    options: all.map((template) => ({ value: template.name, label: template.name, hint: `${template.language}: ${template.summary}` })),
  });
  if (isCancel(chosen)) throw new CliError('interrupted', { exitCode: EXIT.interrupted });
  return all.find(({ name }) => name === chosen)!;
}
