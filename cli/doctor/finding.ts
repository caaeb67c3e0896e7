/** What the doctor found, and how it is shown. */
import type { Painter } from '../context.ts';

export interface Finding {
  /** `warn`: fn works, with less than it could. `fail`: it does not. */
  level: 'ok' | 'warn' | 'fail';
  /** What was looked at. */
  what: string;
  /** What was found. */
  found: string;
  /** What to do about it. */
  remedy?: string;
}

const COLORS = { ok: 'green', warn: 'yellow', fail: 'red' } as const;

export function renderFindings(findings: readonly Finding[], paint: Painter): string {
  const widest = Math.max(...findings.map(({ what }) => what.length));
  const lines = findings.flatMap(({ level, what, found, remedy }) => {
    const line = `${paint(COLORS[level], level.padEnd(4))}  ${what.padEnd(widest)}  ${found}`;
    return remedy === undefined ? [line] : [line, `${' '.repeat(widest + 8)}→ ${remedy}`];
  });
  const count = (level: Finding['level']) => findings.filter((finding) => finding.level === level).length;
  const verdict =
    count('fail') > 0
      ? paint('red', `${count('fail')} to repair`)
      : count('warn') > 0
        ? paint('yellow', 'fn works here, with the limits above')
        : paint('green', 'all is well');
  return `${lines.join('\n')}\n\n${verdict}\n`;
}
