import type { LogEntry } from '#contract/api.ts';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, NAMESPACE_OPTION, integerBetween, parseDuration } from '../command.ts';
import type { Context, Painter } from '../context.ts';
import { painter } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';
import { printable } from '../output.ts';

export const logs: CommandSpec = {
  name: 'logs',
  summary: 'print what a function logged',
  args: [{ name: 'name', description: 'name of the function' }],
  options: [
    NAMESPACE_OPTION,
    { flags: '-f, --follow', description: 'go on with new lines, until Ctrl-C' },
    { flags: '--since <duration>', description: 'only lines of the last 30s, 5m, 2h, …', parse: parseDuration },
    { flags: '--limit <n>', description: 'only the newest lines', parse: integerBetween(1, 10_000) },
    HOME_OPTION,
    { flags: '--json', description: 'print one JSON object a line' },
  ],
  examples: ['fn logs hello -f', 'fn logs hello --since 5m --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const { connect } = await import('../client.ts');
  const { chosenNamespace } = await import('../names.ts');
  const sinceMs = input.number('since');
  const options = {
    follow: input.flag('follow'),
    since: sinceMs === undefined ? undefined : Math.max(0, Date.now() - sinceMs),
    limit: input.number('limit'),
  };
  const paint = painter(ctx.stdout, ctx.env);
  const { readLogs } = await import('../log-reader.ts');
  for await (const entry of readLogs(connect(ctx), chosenNamespace(ctx, input), input.arg(0), options, ctx.signal)) {
    ctx.stdout.write(input.flag('json') ? `${JSON.stringify(entry)}\n` : renderEntry(entry, paint));
  }
  return ctx.signal.aborted ? EXIT.interrupted : EXIT.ok;
}

/** `12:03:04.567 i-xxxx hello text`, further lines of a message indented. */
export function renderEntry({ t, level, stream, msg, instance, req, revision }: LogEntry, paint: Painter): string {
  const time = paint('dim', new Date(t).toISOString().slice(0, 23).replace('T', ' '));
  const number = revision.slice(revision.lastIndexOf('@'));
  const who = paint('dim', `${number} ${instance.slice(0, 8)}${req === undefined ? '' : ` ${printable(req)}`}`);
  const text = printable(msg).trimEnd().replaceAll('\n', '\n    ');
  const mark = stream === 'sys' ? paint('cyan', 'sys ') : '';
  const body = level === 'error' ? paint('red', text) : level === 'warn' ? paint('yellow', text) : text;
  return `${time} ${who} ${mark}${body}\n`;
}
