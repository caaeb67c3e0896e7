/** How numbers, times and tables look. */
import { stripVTControlCharacters } from 'node:util';

/** 12.3 kB; decimal, as file sizes are told. */
export function formatBytes(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB'];
  let value = bytes / 1_000;
  let unit = 0;
  while (value >= 999.95 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** 0.4 ms, 34 ms, 1.2 s */
export function formatMs(ms: number): string {
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  return `${(ms / 1_000).toFixed(1)} s`;
}

/** 45s, 12m, 3h, 9d */
export function formatAge(seconds: number): string {
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

const width = (text: string): number => stripVTControlCharacters(text).length;

export interface Column<Row> {
  title: string;
  value: (row: Row) => string;
  /** Numbers read better from the right. */
  align?: 'left' | 'right';
}

/** An aligned table with a line of titles, two spaces between columns, nothing at the end of a line. */
export function table<Row>(columns: Column<Row>[], rows: readonly Row[]): string {
  const cells = [columns.map((column) => column.title), ...rows.map((row) => columns.map((column) => column.value(row)))];
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => width(line[index]!))));
  const lines = cells.map((line) =>
    line
      .map((cell, index) => {
        const padding = ' '.repeat(widths[index]! - width(cell));
        return columns[index]!.align === 'right' ? padding + cell : cell + padding;
      })
      .join('  ')
      .trimEnd(),
  );
  return lines.map((line) => `${line}\n`).join('');
}

/** `label  value` lines, the values aligned. */
export function fields(pairs: readonly (readonly [string, string])[]): string {
  const longest = Math.max(...pairs.map(([label]) => label.length));
  return pairs.map(([label, value]) => `${`${label.padEnd(longest)}  ${value}`.trimEnd()}\n`).join('');
}

/**
 * Makes text from elsewhere (logs, errors of functions) safe for a terminal: control characters but
 * newline and tab become visible, and those that change the direction or end a line, so that a function
 * cannot repaint the screen of who reads its logs.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (char) => {
    const code = char.charCodeAt(0).toString(16);
    return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`;
  });
}

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const UNPRINTABLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
