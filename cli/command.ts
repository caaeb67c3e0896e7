/** Commands as data: what main.ts makes of them is the parser, the help, the completion and the docs. */
import type { Context } from './context.ts';
import type { ExitCode } from './errors.ts';
import { usageError } from './errors.ts';

/** What only the platform, or this folder, knows: asked for by the completion scripts (completion/candidates.ts). */
export const VALUE_KINDS = [
  'call',
  'context',
  'dead-letter',
  'function',
  'invocation',
  'manifest-function',
  'namespace',
  'revision',
  'runtime',
  'secret',
  'share',
  'target',
  'template',
  'token',
  'trigger',
] as const;
export type ValueKind = (typeof VALUE_KINDS)[number];

/** What a shell offers for a value. `target`: a function of fn.yaml, or a file. */
export type Completes = ValueKind | 'file' | 'folder';

export interface ArgumentSpec {
  name: string;
  description: string;
  optional?: boolean;
  /** Takes all that follows; the last argument only. */
  variadic?: boolean;
  completes?: Completes;
  choices?: readonly string[];
}

export interface OptionSpec {
  /** As commander has it: `-f, --follow`, `--memory <mib>`. */
  flags: string;
  description: string;
  /** Turns the text into a value; throws usageError. */
  parse?: (text: string) => unknown;
  /** May be given several times; the values come as an array. */
  repeatable?: boolean;
  choices?: readonly string[];
  default?: string | number;
  completes?: Completes;
}

export interface CommandSpec {
  /** `deploy`, or with its group: `runtimes build`. */
  name: string;
  /** One line of the list of commands: at most 60 characters. */
  summary: string;
  /** What its own help says beyond the summary. */
  description?: string;
  args?: readonly ArgumentSpec[];
  options?: readonly OptionSpec[];
  /** Lines shown under the help; a shell runs each as it stands. */
  examples?: readonly string[];
  /** For scripts of ours, not for people: in no list. */
  hidden?: boolean;
  /** Returns the exit code; nothing is 0. */
  run(ctx: Context, input: Input): Promise<ExitCode | void>;
}

/** What was typed, already parsed. Asking for an option by a type that it has not is a bug, and throws. */
export class Input {
  readonly #args: readonly (string | undefined)[];
  readonly #options: Readonly<Record<string, unknown>>;

  readonly #typed: ReadonlySet<string>;

  constructor(
    args: readonly (string | undefined)[],
    options: Readonly<Record<string, unknown>>,
    typed: ReadonlySet<string> = new Set(Object.keys(options)),
  ) {
    this.#args = args;
    this.#options = options;
    this.#typed = typed;
  }

  /** Whether it stood on the command line, and is no default. */
  isTyped(name: string): boolean {
    return this.#typed.has(name);
  }

  arg(index: number): string {
    const value = this.#args[index];
    if (value === undefined) throw new TypeError(`argument ${index} was not given`);
    return value;
  }

  optionalArg(index: number): string | undefined {
    return this.#args[index];
  }

  /** Of an argument that takes all that follows. */
  rest(index: number): readonly string[] {
    return this.#args.slice(index).filter((value) => value !== undefined);
  }

  has(name: string): boolean {
    return this.#options[name] !== undefined;
  }

  flag(name: string): boolean {
    return this.#options[name] === true;
  }

  /** Of an option that says no, such as --no-hosts. */
  isOff(name: string): boolean {
    return this.#options[name] === false;
  }

  text(name: string): string | undefined {
    const value = this.#options[name];
    if (value === undefined || typeof value === 'string') return value;
    throw new TypeError(`option ${name} is not text`);
  }

  number(name: string): number | undefined {
    const value = this.#options[name];
    if (value === undefined || typeof value === 'number') return value;
    throw new TypeError(`option ${name} is not a number`);
  }

  list(name: string): string[] {
    const value = this.#options[name];
    if (value === undefined) return [];
    if (Array.isArray(value)) return value.map(String);
    throw new TypeError(`option ${name} is not a list`);
  }
}

/** Parser of an option that is a number. */
export function numberBetween(min: number, max: number, unit = ''): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value) || value < min || value > max) {
      throw usageError(`${JSON.stringify(text)} is not a number from ${min} to ${max}${unit === '' ? '' : ` ${unit}`}`);
    }
    return value;
  };
}

/** Parser of an option that is a whole number. */
export function integerBetween(min: number, max: number, unit = ''): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < min || value > max) {
      throw usageError(`${JSON.stringify(text)} is not a whole number from ${min} to ${max}${unit === '' ? '' : ` ${unit}`}`);
    }
    return value;
  };
}

const DURATION_UNITS_MS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90s`, `5m`, `2h` → milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  if (!match) throw usageError(`${JSON.stringify(text)} is not a duration such as 30s, 5m or 2h`);
  return Number(match[1]) * DURATION_UNITS_MS[match[2]!]!;
}

/** `5m`: so long ago; or a time as ISO 8601 has it, `2026-11-21` or `2026-11-21T08:30Z`. → milliseconds since 1970. */
export function parseMoment(text: string): number {
  if (/^\d+(?:\.\d+)?(?:ms|s|m|h|d)$/.test(text)) return Math.max(0, Date.now() - parseDuration(text));
  const at = /^\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) throw usageError(`${JSON.stringify(text)} is neither a duration such as 5m nor a time such as 2026-11-21T08:30Z`);
  return at;
}

export const JSON_OPTION: OptionSpec = { flags: '--json', description: 'print JSON on stdout' };
export const HOME_OPTION: OptionSpec = {
  flags: '--home <dir>',
  description: 'folder of the platform’s state (default: FN_HOME, or ~/.fn)',
  completes: 'folder',
};
export const NAMESPACE_OPTION: OptionSpec = {
  flags: '-n, --namespace <name>',
  description: 'namespace (default: FN_NAMESPACE, or default)',
  completes: 'namespace',
};
/** Of commands that speak to the control API. */
export const CONTEXT_OPTION: OptionSpec = {
  flags: '--context <name>',
  description: 'platform that you have logged in to (default: FN_URL, or the current one)',
  completes: 'context',
};
export const SINCE_OPTION: OptionSpec = {
  flags: '--since <moment>',
  description: 'from so long ago (30s, 5m, 2h, 7d), or from a time (2026-11-21T08:30Z)',
  parse: parseMoment,
};
export const YES_OPTION: OptionSpec = { flags: '-y, --yes', description: 'do not ask' };

/** `-n, --namespace <name>` → short `-n`, long `--namespace`, and whether a value must follow. */
export function readFlags(flags: string): { short?: string; long: string; takesValue: boolean; placeholder?: string } {
  const short = /(?:^|[ ,])(-[A-Za-z])(?=[ ,]|$)/.exec(flags)?.[1];
  const long = /--[a-z][a-z-]*/.exec(flags)?.[0] ?? '';
  const placeholder = /[<[](.+)[>\]]$/.exec(flags)?.[1];
  return {
    ...(short === undefined ? {} : { short }),
    long,
    takesValue: flags.endsWith('>'),
    ...(placeholder === undefined ? {} : { placeholder }),
  };
}
