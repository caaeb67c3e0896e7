/** The text of a manifest: where things are in it, and how what is wrong with it is shown. */
import { CliError, EXIT } from '../errors.ts';
import { printable } from '../output.ts';

/** From, and up to but without: offsets into the text. */
export type Range = readonly [number, number];

/** What is wrong, and where. */
export interface Fault {
  range: Range;
  message: string;
}

/** Where a value is, and the key before it, if it has one. */
export interface Spot {
  key: Range | null;
  value: Range;
}

export type Path = readonly (string | number)[];

/** More are not shown; the first ones mostly explain them. */
const MAX_FAULTS_SHOWN = 20;
/** Of a line of the file; what is further right is cut. */
const MAX_FRAME_COLUMNS = 120;

export class ManifestText {
  /** As messages name it: relative to where fn was called, where it is below. */
  readonly label: string;
  readonly text: string;
  readonly #spots = new Map<string, Spot>();

  constructor(label: string, text: string) {
    this.label = label;
    this.text = text;
  }

  remember(path: Path, spot: Spot): void {
    this.#spots.set(JSON.stringify(path), spot);
  }

  /** Whether something stands at the path. */
  has(path: Path): boolean {
    return this.#spots.has(JSON.stringify(path));
  }

  /** Of the value at the path, or of what is nearest above it. */
  valueAt(path: Path): Range {
    for (let length = path.length; length >= 0; length -= 1) {
      const spot = this.#spots.get(JSON.stringify(path.slice(0, length)));
      if (spot) return length === path.length ? spot.value : (spot.key ?? spot.value);
    }
    return [0, 0];
  }

  /** Of the key at the path, or of the value where it has none. */
  keyAt(path: Path): Range {
    return this.#spots.get(JSON.stringify(path))?.key ?? this.valueAt(path);
  }

  /** `fn.yaml:3:9`, counted from 1. */
  place(range: Range): string {
    const { line, column } = this.#lineOf(range[0]);
    return `${this.label}:${line}:${column}`;
  }

  /** All of it as one error: exit code 2, each fault with its place, its line, and a mark under what is meant. */
  error(faults: readonly Fault[]): CliError {
    const sorted = [...new Map(faults.map((fault) => [`${fault.range[0]} ${fault.message}`, fault])).values()].toSorted(
      (a, b) => a.range[0] - b.range[0],
    );
    const details = sorted
      .slice(0, MAX_FAULTS_SHOWN)
      .map(({ range, message }) => `${this.place(range)}: ${printable(message)}\n${this.#frame(range)}`);
    if (sorted.length > MAX_FAULTS_SHOWN) details.push(`… and ${sorted.length - MAX_FAULTS_SHOWN} more`);
    return new CliError(`${this.label} is not valid: ${sorted.length === 1 ? '1 error' : `${sorted.length} errors`}`, {
      exitCode: EXIT.usage,
      details,
      hint: 'docs/manifest.md has every field; `fn schema` prints the JSON Schema for your editor. Nothing was deployed.',
    });
  }

  #lineOf(offset: number): { line: number; column: number; start: number } {
    const before = this.text.slice(0, offset);
    const start = before.lastIndexOf('\n') + 1;
    return { line: before.split('\n').length, column: offset - start + 1, start };
  }

  #frame([from, to]: Range): string {
    const { line, column, start } = this.#lineOf(from);
    const end = this.text.indexOf('\n', start);
    const whole = this.text.slice(start, end < 0 ? undefined : end).replace(/\r$/, '');
    // What stands before the place keeps its width, so that the mark is under it.
    const visible = (text: string) => text.replaceAll('\t', ' ').replace(/\p{Cc}/gu, '·');
    const shift = column > MAX_FRAME_COLUMNS - 20 ? column - 20 : 1;
    const shown = visible(whole).slice(shift - 1, shift - 1 + MAX_FRAME_COLUMNS);
    const length = Math.max(1, Math.min(to, start + whole.length) - from);
    const marks = '^'.repeat(Math.max(1, Math.min(length, shown.length - (column - shift))));
    const margin = ' '.repeat(String(line).length);
    return `  ${line} │ ${shown}\n  ${margin} │ ${' '.repeat(column - shift)}${marks}`;
  }
}
