/** A function's log line as `fn dev` shows it: short, since everything happens here and now. */
import type { LogEntry } from '#contract/api.ts';
import type { Painter } from '../context.ts';
import { printable } from '../output.ts';

/** `12:03:04.567 hello text`; further lines of a message are indented. */
export function renderLine(label: string, { t, level, stream, msg }: LogEntry, paint: Painter): string {
  const time = paint('dim', new Date(t).toTimeString().slice(0, 8));
  const text = printable(msg).trimEnd().replaceAll('\n', '\n    ');
  const body =
    level === 'error' ? paint('red', text) : level === 'warn' ? paint('yellow', text) : level === 'debug' ? paint('dim', text) : text;
  return `${time} ${label}  ${stream === 'sys' ? paint('cyan', 'fn ') : ''}${body}\n`;
}
