import type { LogLevel } from '#contract/log.ts';
import type { ApiClient } from '../client.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION, SINCE_OPTION, integerBetween, parseMoment } from '../command.ts';
import type { Context } from '../context.ts';
import { painter, say } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT, usageError } from '../errors.ts';
import { renderEntry } from '../log-view.ts';

const LEVELS = ['debug', 'info', 'warn', 'error'] as const satisfies readonly LogLevel[];

export const logs: CommandSpec = {
  name: 'logs',
  summary: 'print what a function logged',
  args: [{ name: 'name', description: 'name of the function', completes: 'function' }],
  options: [
    NAMESPACE_OPTION,
    { flags: '-f, --follow', description: 'go on with new lines, until Ctrl-C' },
    SINCE_OPTION,
    { flags: '--until <moment>', description: 'up to then', parse: parseMoment },
    { flags: '--request <id>', description: 'only lines of one request: its x-request-id', completes: 'call' },
    { flags: '--level <level>', description: 'only lines of this level and above it', choices: LEVELS },
    { flags: '--grep <text>', description: 'only lines that contain this text' },
    { flags: '--revision <n>', description: 'only lines of this revision', parse: integerBetween(1, 2 ** 31), completes: 'revision' },
    { flags: '--limit <n>', description: 'only the newest so many', parse: integerBetween(1, 10_000) },
    HOME_OPTION,
    { ...JSON_OPTION, description: 'print one JSON object a line' },
  ],
  examples: [
    'fn logs hello -f',
    'fn logs hello --since 5m --level warn',
    'fn logs hello --request k3v9x0q2ab-1f',
    'fn logs hello --since 2026-11-21 --grep timeout --json',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const { connect } = await import('../client.ts');
  const { readLogs } = await import('../log-reader.ts');
  const { chosenNamespace } = await import('../names.ts');
  const namespace = chosenNamespace(ctx, input);
  const name = input.arg(0);
  const selection = selectionFrom(input);
  const client = connect(ctx);
  const revision = input.number('revision');
  const isKept = revision === undefined || (await checkRevision(client, namespace, name, revision));
  const paint = painter(ctx.stdout, ctx.env);
  let lines = 0;
  for await (const entry of readLogs(client, namespace, name, selection, ctx.signal)) {
    lines += 1;
    ctx.stdout.write(input.flag('json') ? `${JSON.stringify(entry)}\n` : renderEntry(entry, paint));
  }
  if (ctx.signal.aborted) return EXIT.interrupted;
  if (lines === 0 && !isKept) say(ctx, `note: ${name}@${revision} is not kept any more, and no line of it is left`);
  await tellDropped(ctx, client, namespace, name);
  return EXIT.ok;
}

/** Whether the revision is still kept. Throws usageError for one that never was. */
async function checkRevision(client: ApiClient, namespace: string, name: string, wanted: number): Promise<boolean> {
  const numbers = (await client.revisions(namespace, name)).map(({ number }) => number);
  const newest = Math.max(...numbers);
  if (wanted > newest) throw usageError(`${name} has no revision ${wanted}; the newest is ${newest}`, `See fn revisions ${name}.`);
  return numbers.includes(wanted);
}

/** Throws usageError for times that no line can be between. */
function selectionFrom(input: Input) {
  const [since, until] = [input.number('since'), input.number('until')];
  if (input.flag('follow') && until !== undefined)
    throw usageError('--follow goes on with new lines, and --until ends before them', 'Leave out one of them.');
  if (since !== undefined && until !== undefined && until <= since)
    throw usageError('--until is before --since: no line is between them', 'Both count back from now: --since 1h --until 5m.');
  const level = input.text('level');
  const given = {
    since,
    until,
    limit: input.number('limit'),
    request: input.text('request'),
    level: LEVELS.find((one) => one === level),
    grep: input.text('grep'),
    revision: input.number('revision'),
  };
  return { follow: input.flag('follow'), ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
}

/** Whoever reads a log should know that it is not all of it. */
async function tellDropped(ctx: Context, client: ApiClient, namespace: string, name: string): Promise<void> {
  const { droppedLines } = await client.logStats(namespace, name);
  if (droppedLines === 0) return;
  const lines = droppedLines === 1 ? '1 line was' : `${droppedLines} lines were`;
  say(ctx, `note: ${lines} dropped since ${name} was first deployed: over the rate, over the driver's limit, or the disk was full`);
}
