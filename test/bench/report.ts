/** Figures, the marks that they are held to, and the table that people read. */

export interface Figure {
  /** Which measurement it belongs to: the word for --only. */
  group: string;
  what: string;
  unit: 'ms' | 'req/s' | 'µs' | 'MiB' | '1/s' | 'requests' | 's' | '%';
  value: number;
  /** What it is compared with: the same thing without the platform. */
  against?: { what: string; value: number };
  /** value ÷ against, or whatever the mark is about. */
  ratio?: number;
  /** The mark: what must hold, in words, and whether it does. */
  mark?: { says: string; met: boolean };
  /** Half the distance of the quartiles over the median, between rounds. */
  spread?: number;
  /** What one has to know to read it. */
  note?: string;
}

const number = (value: number) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2));

const cells = (figure: Figure): string[] => [
  figure.what,
  `${number(figure.value)} ${figure.unit}${figure.spread === undefined ? '' : ` ± ${(figure.spread * 100).toFixed(0)} %`}`,
  figure.against ? `${number(figure.against.value)} ${figure.unit} (${figure.against.what})` : '',
  figure.ratio === undefined ? '' : figure.ratio.toFixed(2),
  figure.mark ? `${figure.mark.says}: ${figure.mark.met ? 'met' : 'MISSED'}` : '',
];

/** A Markdown table, which is also legible as it is. */
export function table(figures: Figure[]): string {
  const head = ['what', 'fn', 'against', 'ratio', 'mark'];
  const rows = [head, ...figures.map(cells)];
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  const notes = figures.filter(({ note }) => note !== undefined).map(({ what, note }) => `- ${what}: ${note}`);
  return [
    line(head),
    line(widths.map((width) => '-'.repeat(width))),
    ...rows.slice(1).map(line),
    ...(notes.length > 0 ? ['', ...notes] : []),
  ].join('\n');
}

export const atMost = (value: number, limit: number, unit: string): Figure['mark'] => ({ says: `≤ ${limit} ${unit}`, met: value <= limit });
export const atLeast = (value: number, limit: number, unit: string): Figure['mark'] => ({
  says: `≥ ${limit} ${unit}`,
  met: value >= limit,
});
