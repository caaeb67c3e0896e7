/**
 * What the fault suites saw (test/chaos/report.ts), as one table for people and, in the long form, one file of JSON in
 * bench-results/. Plain JavaScript for Node 18 and up.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Longest text of a column, characters. */
const MAX_TEXT = 44;

const COLUMNS = [
  ['fault', (row) => String(row.fault)],
  ['what', (row) => row.what],
  ['driver', (row) => row.driver],
  ['ok', (row) => String(row.acknowledged)],
  ['failed', (row) => failures(row.failed)],
  ['lost', (row) => count(row.lost)],
  ['dupl.', (row) => count(row.duplicated)],
  ['unknown', (row) => count(row.unknown)],
  ['recover s', (row) => (row.recoveredMs === null ? '–' : (row.recoveredMs / 1_000).toFixed(1))],
  ['leaks', (row) => row.leaks],
];

const count = (number) => (number === null ? '–' : String(number));

function failures(byWhat) {
  const parts = Object.entries(byWhat).map(([what, times]) => `${times}× ${what}`);
  return parts.length === 0 ? '0' : parts.join(', ');
}

const cut = (text) => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT - 1)}…` : text);

/** Rows that a run has written; none where no fault suite ran. */
export function readFaults(file) {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
    .filter((row) => row.fault !== undefined)
    .sort((a, b) => a.fault - b.fault);
}

/** One line for each row, in columns. */
export function faultTable(rows) {
  const cells = [COLUMNS.map(([title]) => title), ...rows.map((row) => COLUMNS.map(([, text]) => cut(text(row))))];
  const widths = COLUMNS.map((_, column) => Math.max(...cells.map((line) => line[column].length)));
  return cells
    .map((line) =>
      line
        .map((text, column) => text.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Prints the table, if there is one; in the long form writes all of it to a file, too, and prints its path. */
export function tellFaults(file, root, full) {
  const rows = readFaults(file);
  if (rows.length === 0) return;
  process.stderr.write(`\nfaults (docs/faults.md)\n${faultTable(rows)}\n`);
  if (!full) return;
  const folder = join(root, 'bench-results');
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `chaos-${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.json`);
  writeFileSync(path, `${JSON.stringify(rows, null, 2)}\n`);
  process.stderr.write(`written to ${path}\n`);
}
