import type { CommandSpec, Input } from '../command.ts';
import { CONTEXT_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { print, printJson, say } from '../context.ts';
import { table } from '../output.ts';

const NAME = [{ name: 'name', description: 'name of the context', completes: 'context' }] as const;

export const contextList: CommandSpec = {
  name: 'context list',
  summary: 'list the platforms that you have logged in to',
  options: [JSON_OPTION],
  examples: ['fn context list', 'fn context list --json'],
  run: async (ctx, input) => {
    const { readContexts } = await import('../contexts.ts');
    const { current, contexts } = readContexts(ctx);
    const rows = Object.entries(contexts)
      .map(([name, { url, namespace, gateway }]) => ({
        name,
        url,
        namespace: namespace ?? null,
        gateway: gateway ?? null,
        current: name === current,
      }))
      .toSorted((a, b) => a.name.localeCompare(b.name));
    if (input.flag('json')) return printJson(ctx, { contexts: rows });
    if (rows.length === 0) return say(ctx, 'No contexts yet: fn login URL');
    const text = table(
      [
        { title: 'CURRENT', value: (row) => (row.current ? '*' : '') },
        { title: 'NAME', value: (row) => row.name },
        { title: 'URL', value: (row) => row.url },
        { title: 'NAMESPACE', value: (row) => row.namespace ?? '–' },
      ],
      rows,
    );
    ctx.stdout.write(text);
  },
};

export const contextShow: CommandSpec = {
  name: 'context show',
  summary: 'show which platform commands speak to, and why',
  options: [{ ...CONTEXT_OPTION, description: 'as if this were named' }, JSON_OPTION],
  examples: ['fn context show', 'fn context show --context fn.example.com --json'],
  run: async (ctx, input) => {
    const { remoteOf } = await import('../contexts.ts');
    const remote = remoteOf(ctx);
    const shown =
      remote === null
        ? { home: ctx.home }
        : { url: remote.url, namespace: remote.namespace ?? null, gateway: remote.gateway ?? null, from: remote.from };
    if (input.flag('json')) printJson(ctx, shown);
    else print(ctx, remote === null ? `the home ${ctx.home}` : `${remote.url} (${remote.from})`);
  },
};

export const contextUse: CommandSpec = {
  name: 'context use',
  summary: 'speak to this platform from now on',
  description: '- is the home of this machine.',
  args: NAME,
  options: [JSON_OPTION],
  examples: ['fn context use fn.example.com', 'fn context use -'],
  run: use,
};

async function use(ctx: Context, input: Input): Promise<void> {
  const { readContexts, requireContext, writeContexts } = await import('../contexts.ts');
  const name = input.arg(0);
  const contexts = readContexts(ctx);
  const current = name === '-' ? null : name;
  if (current !== null) requireContext(contexts, current);
  writeContexts(ctx, { ...contexts, current });
  const where = current === null ? `the home ${ctx.home}` : requireContext(contexts, current).url;
  say(ctx, `Commands speak to ${where} from now on.`);
  if (input.flag('json')) printJson(ctx, { current });
}

export const contextDelete: CommandSpec = {
  name: 'context delete',
  summary: 'forget a platform and its token',
  description: 'The token itself stays good: fn token revoke ends it.',
  args: NAME,
  options: [JSON_OPTION],
  examples: ['fn context delete fn.example.com', 'fn context rm staging --json'],
  run: remove,
};

async function remove(ctx: Context, input: Input): Promise<void> {
  const { readContexts, requireContext, writeContexts } = await import('../contexts.ts');
  const name = input.arg(0);
  const contexts = readContexts(ctx);
  requireContext(contexts, name);
  const { [name]: _gone, ...left } = contexts.contexts;
  writeContexts(ctx, { current: contexts.current === name ? null : contexts.current, contexts: left });
  say(ctx, `Forgot ${name}.`);
  if (input.flag('json')) printJson(ctx, { deleted: true, name });
}
