/** Names and places of all commands, as completion scripts want them. */
import type { CommandSpec, Completes, OptionSpec } from '../command.ts';
import { readFlags } from '../command.ts';
import { aliasOf } from '../program.ts';

/** What may stand in a place: something that is looked up, words that are known, or anything. */
export type Place = Completes | { words: readonly string[] } | 'any';

export interface OptionModel {
  /** `-n`, `--namespace` */
  names: readonly string[];
  description: string;
  /** Null where no value follows. */
  place: Place | null;
  repeatable: boolean;
  /** `name` of `--namespace <name>` */
  placeholder: string;
}

export interface CommandModel {
  name: string;
  summary: string;
  options: readonly OptionModel[];
  args: readonly { name: string; place: Place; variadic: boolean }[];
}

const HELP: OptionSpec = { flags: '-h, --help', description: 'print help' };

export function commandModels(commands: readonly CommandSpec[]): CommandModel[] {
  return commands.map(({ name, summary, options = [], args = [] }) => ({
    name,
    summary,
    options: [...options, HELP].map(optionModel),
    args: args.map(({ name: arg, completes, choices, variadic }) => ({
      name: arg,
      place: choices ? { words: choices } : (completes ?? 'any'),
      variadic: variadic === true,
    })),
  }));
}

function optionModel({ flags, description, choices, completes, repeatable }: OptionSpec): OptionModel {
  const { short, long, takesValue, placeholder = 'value' } = readFlags(flags);
  return {
    names: [...(short === undefined ? [] : [short]), long],
    description,
    place: takesValue ? (choices ? { words: choices } : (completes ?? 'any')) : null,
    repeatable: repeatable === true,
    placeholder,
  };
}

/** `secret rm` → `secret delete`. */
export function fullNames(commands: readonly CommandSpec[]): Map<string, string> {
  const names = new Map<string, string>();
  for (const spec of commands) {
    const alias = aliasOf(spec);
    if (alias !== undefined) names.set([...spec.name.split(' ').slice(0, -1), alias].join(' '), spec.name);
  }
  return names;
}

export interface ScriptModel {
  commands: readonly CommandModel[];
  /** What groups of commands are for, by their first word. */
  groups: Readonly<Record<string, string>>;
  /** `secret rm` → `secret delete` */
  aliases: ReadonlyMap<string, string>;
}

/** First words, each once, in their order. */
export function firstWords({ commands, groups }: ScriptModel): { word: string; summary: string }[] {
  const words = new Map<string, string>();
  for (const { name, summary } of commands) {
    const [first] = name.split(' ') as [string];
    if (!words.has(first)) words.set(first, first === name ? summary : (groups[first] ?? ''));
  }
  return [...words].map(([word, summary]) => ({ word, summary }));
}

/** Commands of a group, by their second word. */
export function secondWords({ commands }: ScriptModel, group: string): { word: string; summary: string }[] {
  return commands
    .filter(({ name }) => name.startsWith(`${group} `))
    .map(({ name, summary }) => ({ word: name.slice(group.length + 1), summary }));
}

/** Names of all groups. */
export const groupsOf = (model: ScriptModel): string[] =>
  firstWords(model)
    .map(({ word }) => word)
    .filter((word) => secondWords(model, word).length > 0);
