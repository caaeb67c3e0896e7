import { describe, expect, it } from 'vitest';
import { formatAge, formatBytes, formatMs, printable, table } from './output.ts';

describe('numbers', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [12_345, '12.3 kB'],
    [999_949, '999.9 kB'],
    [999_951, '1.0 MB'],
    [3_000_000_000, '3.0 GB'],
  ])('%d bytes', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [0.04, '0.0 ms'],
    [9.94, '9.9 ms'],
    [34.4, '34 ms'],
    [1_240, '1.2 s'],
  ])('%d ms', (ms, text) => expect(formatMs(ms)).toBe(text));

  it.each([
    [59.9, '59s'],
    [3_599, '59m'],
    [86_400 * 3, '3d'],
  ])('%d s', (seconds, text) => expect(formatAge(seconds)).toBe(text));
});

describe('a table', () => {
  it('aligns by what is seen, and ends no line with spaces', () => {
    const rows = [
      { name: 'a', size: 5 },
      { name: '\u001b[31mlong\u001b[39m', size: 1_000 },
    ];
    const text = table(
      [
        { title: 'NAME', value: (row) => row.name },
        { title: 'SIZE', value: (row) => String(row.size), align: 'right' },
      ],
      rows,
    );
    expect(text).toBe('NAME  SIZE\na        5\n\u001b[31mlong\u001b[39m  1000\n');
  });
});

it('what functions log cannot control a terminal', () => {
  expect(printable('a\u001b[2Jb\r\u0000\u009bc\n\td')).toBe('a\\x1b[2Jb\\x0d\\x00\\x9bc\n\td');
  expect(printable('lin\u2028e \u202etxet\u2066')).toBe('lin\\u2028e \\u202etxet\\u2066');
});
