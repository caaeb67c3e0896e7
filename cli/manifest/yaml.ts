/**
 * YAML to plain values, with the place of every one of them. Stricter than YAML is: no tags, no merge
 * keys, no keys that are not text, no key twice; aliases are followed within limits, so that a file of
 * a few lines cannot become a million values.
 */
import type { Alias, Document, Node, Pair, Scalar } from 'yaml';
import { LineCounter, isAlias, isMap, isPair, isScalar, isSeq, parseDocument } from 'yaml';
import type { Fault, ManifestText, Path, Range } from './text.ts';

const LIMITS = {
  /** Values as they are after aliases were followed. */
  values: 50_000,
  aliases: 200,
  depth: 20,
} as const;

const TOO_DEEP = 'this is nested too deeply';
/** Where the parser's own words are no help. */
const WORDS: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'this key is here a second time',
  MULTIPLE_DOCS: 'only one document (---) may be in this file',
};

/** What the parser makes of a schedule without quotes: aliases, one after the other. */
const UNQUOTED = /^(?:Alias cannot be an empty string|Unexpected alias at node end|Plain value cannot start with reserved character @)/;
const NEEDS_QUOTES = "text that begins with * or @, as a schedule may, needs quotes: '*/5 * * * *'";

/** Fills `text` with the places. Throws CliError with all that is wrong. */
export function parseYaml(text: ManifestText): unknown {
  const document = parsed(text);
  const faults: Fault[] = [...document.errors, ...document.warnings].map(({ code, message, pos }) => ({
    range: [pos[0], Math.max(pos[1], pos[0] + 1)],
    message: wordsOf(code, message),
  }));
  // After a schedule without quotes, what is left of its line says nothing of use.
  const unquoted = faults.filter(({ message }) => message === NEEDS_QUOTES);
  const telling = faults.filter(
    (fault) => !unquoted.some(({ range: [from] }) => from < fault.range[0] && sameLine(text, from, fault.range[0])),
  );
  if (telling.length > 0) throw text.error(telling);
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null))
    throw text.error([{ range: [0, 0], message: 'this file is empty; at least: functions: {hello: {entry: ./hello.ts}}' }]);
  const reader = new Reader(document, text);
  const value = reader.read(document.contents, [], null);
  if (reader.faults.length > 0) throw text.error(reader.faults);
  return value;
}

function wordsOf(code: string, message: string): string {
  if (UNQUOTED.test(message)) return NEEDS_QUOTES;
  return WORDS[code] ?? (message.startsWith('Maximum call stack') ? TOO_DEEP : message);
}

const sameLine = ({ text }: ManifestText, from: number, to: number): boolean => !text.slice(from, to).includes('\n');

function parsed(text: ManifestText): Document.Parsed {
  try {
    return parseDocument(text.text, {
      prettyErrors: false,
      lineCounter: new LineCounter(),
      version: '1.2',
      merge: false,
      logLevel: 'error',
    });
  } catch (error) {
    // The parser calls itself for each level.
    if (error instanceof RangeError) throw text.error([{ range: [0, 1], message: TOO_DEEP }]);
    throw error;
  }
}

/** `environments.staging.functions.api.env.STAGE` and its like: the values of variables. */
export function isVariable(path: Path): boolean {
  const rest = path[0] === 'environments' ? path.slice(2) : path;
  const [first, second, third] = rest;
  if (rest.length === 2) return path[0] === 'environments' && first === 'env';
  if (rest.length === 3) return first === 'defaults' && second === 'env';
  return rest.length === 4 && first === 'functions' && third === 'env';
}

const rangeOf = (node: { range?: readonly [number, number, number] | null | undefined }): Range =>
  node.range ? [node.range[0], node.range[1]] : [0, 0];

class Reader {
  readonly faults: Fault[] = [];
  readonly #document: Document.Parsed;
  readonly #text: ManifestText;
  #values = 0;
  #aliases = 0;

  constructor(document: Document.Parsed, text: ManifestText) {
    this.#document = document;
    this.#text = text;
  }

  /** `key`: where the key of this value is. */
  read(node: unknown, path: Path, key: Range | null): unknown {
    this.#values += 1;
    if (this.#values > LIMITS.values)
      return this.#once(key ?? [0, 1], `this file holds more than ${LIMITS.values} values, aliases followed`);
    const value = isAlias(node) ? this.#followed(node) : node;
    const range: Range = isNodeLike(node) ? rangeOf(node) : (key ?? [0, 0]);
    this.#text.remember(path, { key, value: range[1] > range[0] ? range : (key ?? range) });
    if (path.length > LIMITS.depth) return this.#once(range, `this is nested more than ${LIMITS.depth} levels deep`);
    if (isMap(value)) return this.#map(value.items, path);
    if (isSeq(value)) return value.items.map((item, index) => this.read(isPair(item) ? item.value : item, [...path, index], null));
    if (isScalar(value)) return scalarValue(value, path);
    return null;
  }

  #map(items: readonly Pair[], path: Path): Record<string, unknown> {
    const entries: [string, unknown][] = [];
    for (const item of items) {
      const range: Range = isNodeLike(item.key) ? rangeOf(item.key) : [0, 0];
      const name =
        isScalar(item.key) && item.key.value !== null
          ? typeof item.key.value === 'string'
            ? item.key.value
            : (item.key.source ?? '')
          : null;
      if (name === null) this.faults.push({ range, message: 'a key must be text' });
      else if (name === '<<')
        this.faults.push({
          range,
          message: 'merge keys (<<) are not a part of YAML 1.2; what functions have in common stands under defaults',
        });
      else if (name === '__proto__') this.faults.push({ range, message: '__proto__ cannot be a key' });
      else entries.push([name, this.read(item.value, [...path, name], range)]);
    }
    return Object.fromEntries(entries);
  }

  #followed(alias: Alias): Node | undefined {
    this.#aliases += 1;
    if (this.#aliases > LIMITS.aliases) return this.#once(rangeOf(alias), `more than ${LIMITS.aliases} aliases are followed in this file`);
    const target = alias.resolve(this.#document);
    if (!target) this.faults.push({ range: rangeOf(alias), message: `there is no anchor &${alias.source} before this` });
    return target;
  }

  /** Limits are told once; what follows would only repeat it. */
  #once(range: Range, message: string): undefined {
    if (!this.faults.some((fault) => fault.message === message)) this.faults.push({ range, message });
  }
}

const isNodeLike = (value: unknown): value is Node => typeof value === 'object' && value !== null && 'range' in value;

/** Variables are text: `1.10` stays 1.10, `yes` and `0x10` what they are. */
function scalarValue(scalar: Scalar, path: Path): unknown {
  const { value, source } = scalar;
  return isVariable(path) && (typeof value === 'number' || typeof value === 'boolean') ? (source ?? String(value)) : value;
}
