import type { Why } from '#contract/call.ts';
import { ERRORS } from '#contract/errors.ts';
import { revisionLabel } from '#contract/names.ts';
import type { ApiClient } from '../client.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context, Painter } from '../context.ts';
import { painter, printJson } from '../context.ts';
import { CliError, usageError } from '../errors.ts';
import { chosenNamespace } from '../names.ts';
import { formatMs, printable } from '../output.ts';
import { renderEntry } from './logs.ts';

/** Width of the longest bar, characters. */
const BAR_WIDTH = 32;

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
  const { connect } = await import('../client.ts');
  const client = connect(ctx);
  const namespace = chosenNamespace(ctx, input);
  const id = (await newestOf(client, namespace, input)) ?? input.arg(0);
  const explained = await client.why(namespace, id);
  if (input.flag('json')) printJson(ctx, explained);
  else ctx.stdout.write(renderWhy(explained, painter(ctx.stdout, ctx.env)));
}

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

/** What a person reads; every text of a client's or a function's is made safe for the terminal. */
export function renderWhy(explained: Why, paint: Painter): string {
  const { call, temperature, fault, summary, advice, instance, logs, others } = explained;
  const who = call.revision === undefined ? call.name : revisionLabel(call.revision);
  const where = call.instance === undefined ? '' : ` on ${call.instance}`;
  const status = call.aborted === true ? 'the client went away' : call.status === 0 ? 'cut' : String(call.status);
  const lines = [
    `${paint('bold', printable(`${call.method} ${call.path}`))} → ${statusText(explained, status, paint)} in ${formatMs(call.totalMs)}`,
    paint(
      'dim',
      `${who}${where}, ${new Date(call.t).toISOString()}, request ${printable(call.id)}${call.traceId === undefined ? '' : `, trace ${call.traceId}`}`,
    ),
    '',
    printable(summary),
    ...(fault === 'none' ? [] : [`at fault: ${fault}${titleOf(call.code)}`]),
    '',
    ...bars(explained, paint),
    `  ${printable(temperature)}`,
  ];
  if (advice.length > 0)
    lines.push('', paint('bold', 'what to do'), ...advice.map((sentence) => `  ${paint('dim', '→')} ${printable(sentence)}`));
  if (instance !== null && instance.notes.length > 0)
    lines.push('', paint('bold', `instance ${instance.id}`), ...instance.notes.map((entry) => `  ${renderEntry(entry, paint).trimEnd()}`));
  lines.push('', paint('bold', 'log of this request'));
  if (logs.length === 0) lines.push('  nothing was logged for it');
  for (const entry of logs) lines.push(`  ${renderEntry(entry, paint).trimEnd().replaceAll('\n', '\n  ')}`);
  if (others > 0) lines.push('', `note: ${others} older ${others === 1 ? 'call has' : 'calls have'} the same id; this is the newest`);
  return `${lines.join('\n')}\n`;
}

function statusText({ fault }: Why, status: string, paint: Painter): string {
  if (fault === 'none') return paint('green', status);
  return paint(fault === 'caller' ? 'yellow' : 'red', status);
}

function titleOf(code: string | undefined): string {
  const entry = Object.entries(ERRORS).find(([name]) => name === code)?.[1];
  return entry === undefined ? '' : ` (${entry.title})`;
}

/** `handler    4.0 ms  ████████  the function worked…`; the longest phase has the longest bar. */
function bars({ phases }: Why, paint: Painter): string[] {
  const longest = Math.max(0.001, ...phases.map(({ ms }) => ms));
  const nameWidth = Math.max(0, ...phases.map(({ name }) => name.length));
  const timeWidth = Math.max(0, ...phases.map(({ ms }) => formatMs(ms).length));
  return phases.map(({ name, ms, note }) => {
    const bar = '█'.repeat(Math.round((ms / longest) * BAR_WIDTH)).padEnd(BAR_WIDTH);
    const tail = note === undefined ? '' : `  ${paint('dim', note)}`;
    return `  ${name.padEnd(nameWidth)}  ${formatMs(ms).padStart(timeWidth)}  ${paint('cyan', bar)}${tail}`.trimEnd();
  });
}
