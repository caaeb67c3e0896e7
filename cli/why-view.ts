/** One call explained, as a person reads it. */
import type { Why } from '#contract/call.ts';
import { ERRORS } from '#contract/errors.ts';
import { revisionLabel } from '#contract/names.ts';
import type { Painter } from './context.ts';
import { renderEntry } from './log-view.ts';
import { formatMs, printable } from './output.ts';

/** Width of the longest bar, characters. */
const BAR_WIDTH = 32;

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
