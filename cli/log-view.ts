/** Lines of a log as a person reads them. */
import type { LogEntry, LogLevel } from '#contract/log.ts';
import type { Painter } from './context.ts';
import { printable } from './output.ts';

/** `2026-11-21 12:03:04.567 @7 i-xxxxxx REQUEST text`, further lines of a message indented. */
export function renderEntry({ t, level, stream, msg, instance, req, revision }: LogEntry, paint: Painter): string {
  const time = paint('dim', new Date(t).toISOString().slice(0, 23).replace('T', ' '));
  const number = revision.slice(revision.lastIndexOf('@'));
  const who = paint('dim', `${number} ${instance.slice(0, 8)}${req === undefined ? '' : ` ${printable(req)}`}`);
  const text = printable(msg).trimEnd().replaceAll('\n', '\n    ');
  const mark = stream === 'sys' ? paint('cyan', 'sys ') : '';
  return `${time} ${who} ${mark}${paintLevel(level, text, paint)}\n`;
}

function paintLevel(level: LogLevel, text: string, paint: Painter): string {
  if (level === 'error') return paint('red', text);
  if (level === 'warn') return paint('yellow', text);
  return level === 'debug' ? paint('dim', text) : text;
}
