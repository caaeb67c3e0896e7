import type { ApiClient } from '../client.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { painter, printJson } from '../context.ts';
import { CliError, usageError } from '../errors.ts';

export const why: CommandSpec = {
  name: 'why',
  summary: 'explain one call: its time, who was at fault, what to do',
  args: [
    {
      name: 'call',
      description: 'x-request-id of the answer, or the id of a trace; with --last and the like the name of a function',
      completes: 'call',
    },
  ],
  options: [
    NAMESPACE_OPTION,
    { flags: '--last', description: 'the newest call of a function that is on record' },
    { flags: '--failed', description: 'its newest that failed' },
    { flags: '--slow', description: 'its newest that was slow' },
    { flags: '--cold', description: 'its newest that waited for a start' },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn why k3v9x0q2ab-1f', 'fn why --failed hello', 'fn why --slow hello --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  const [{ connect }, { chosenNamespace }, { renderWhy }] = await Promise.all([
    import('../client.ts'),
    import('../names.ts'),
    import('../why-view.ts'),
  ]);
  const client = connect(ctx);
  const namespace = chosenNamespace(ctx, input);
  const id = (await newestOf(client, namespace, input)) ?? input.arg(0);
  const explained = await client.why(namespace, id).catch((error: unknown) => {
    // Of an event each attempt is a request, with an id of its own. (A client may call its requests so, too.)
    if (error instanceof CliError && error.code === 'call-not-found' && EVENT_ID.test(id))
      throw usageError(
        `${id} is the id of an event, not of a request`,
        `fn invocation show NAME ${id}, or fn dlq show, names the request of its last attempt.`,
      );
    throw error;
  });
  if (input.flag('json')) printJson(ctx, explained);
  else ctx.stdout.write(renderWhy(explained, painter(ctx.stdout, ctx.env)));
}

/** As the contract has it; named here so that `fn why` loads no schema. */
const EVENT_ID = /^e-[0-9a-z]{24}$/;

/** The id of the newest call of a kind of a function; null where a call itself is named. */
async function newestOf(client: ApiClient, namespace: string, input: Input): Promise<string | null> {
  const kinds = (['last', 'failed', 'slow', 'cold'] as const).filter((kind) => input.flag(kind));
  const [kind] = kinds;
  if (kind === undefined) return null;
  if (kinds.length > 1)
    throw usageError('--last, --failed, --slow and --cold exclude each other', 'fn calls NAME lists calls of several kinds.');
  const name = input.arg(0);
  const [newest] = await client.listCalls(namespace, name, { ...(kind === 'last' ? {} : { [kind]: true }), limit: 1 });
  if (newest !== undefined) return newest.id;
  throw new CliError(`no ${kind === 'last' ? '' : `${kind} `}call of ${name} is on record`, {
    hint: 'Of calls that go well only a sample is kept; fn calls NAME lists them.',
  });
}
