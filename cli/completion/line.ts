/** A command line that is still being typed, read as far as it goes. */
import type { CommandSpec, OptionSpec } from '../command.ts';
import { readFlags } from '../command.ts';

export interface Line {
  /** Null while no command is named. */
  spec: CommandSpec | null;
  /** By long name, without a value true; the last of each counts. */
  options: ReadonlyMap<string, string | true>;
  args: readonly string[];
}

/** `names`: what a word of a command may be, by what it stands for: `ls` → `list`. */
export function readLine(words: readonly string[], commands: readonly CommandSpec[], names: ReadonlyMap<string, string>): Line {
  const groups = new Set(commands.filter(({ name }) => name.includes(' ')).map(({ name }) => name.split(' ')[0]!));
  const options = new Map<string, string | true>();
  const args: string[] = [];
  let path = '';
  let spec: CommandSpec | null = null;
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at]!;
    if (word.startsWith('-') && word !== '-') {
      const [flag, value] = split(word);
      const option = spec === null ? undefined : optionOf(spec, flag);
      if (option === undefined) continue;
      const { long, takesValue } = readFlags(option.flags);
      options.set(long, takesValue ? (value ?? words[(at += 1)] ?? '') : true);
    } else if (spec !== null) args.push(word);
    else {
      path = path === '' ? word : `${path} ${word}`;
      const full = names.get(path) ?? path;
      spec = groups.has(full) ? null : (commands.find(({ name }) => name === full) ?? null);
    }
  }
  return { spec, options, args };
}

/** `--name=value` → both. */
function split(word: string): [string, string | undefined] {
  const at = word.startsWith('--') ? word.indexOf('=') : -1;
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

/** The option that is called so in a command. */
function optionOf({ options = [] }: CommandSpec, flag: string): OptionSpec | undefined {
  return options.find(({ flags }) => {
    const { short, long } = readFlags(flags);
    return flag === long || flag === short;
  });
}
