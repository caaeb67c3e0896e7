/** Reads Prometheus' text format, strictly: what it does not understand is an error. */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface Exposition {
  types: Map<string, string>;
  help: Map<string, string>;
  samples: Sample[];
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,|$)/y;

export function parsePrometheus(text: string): Exposition {
  const parsed: Exposition = { types: new Map(), help: new Map(), samples: [] };
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const comment = /^# (HELP|TYPE|UNIT) (\S+) (.*)$/.exec(line);
    if (comment !== null) {
      if (comment[1] === 'TYPE' && parsed.types.has(comment[2]!)) throw new Error(`two types: ${line}`);
      if (comment[1] !== 'UNIT') (comment[1] === 'TYPE' ? parsed.types : parsed.help).set(comment[2]!, comment[3]!);
      continue;
    }
    const sample = SAMPLE.exec(line);
    if (sample === null) throw new Error(`not a sample: ${line}`);
    const value = sample[3] === '+Inf' ? Infinity : Number(sample[3]);
    if (Number.isNaN(value)) throw new Error(`not a value: ${line}`);
    parsed.samples.push({ name: sample[1]!, labels: labelsOf(sample[2] ?? '', line), value });
  }
  for (const { name } of parsed.samples) if (familyOf(parsed, name) === undefined) throw new Error(`no TYPE for ${name}`);
  return parsed;
}

/** The name in the TYPE line: that of a histogram's samples is without its ending. */
export function familyOf({ types }: Pick<Exposition, 'types'>, name: string): string | undefined {
  return [name, name.replace(/_(?:bucket|sum|count)$/, '')].find((candidate) => types.has(candidate));
}

function labelsOf(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const match = LABEL.exec(text);
    if (match === null) throw new Error(`not labels: ${line}`);
    labels[match[1]!] = match[2]!;
  }
  return labels;
}
