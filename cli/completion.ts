/** Completion scripts, made from the commands' data: static text, so that a Tab starts no process. */
import type { CommandSpec } from './command.ts';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** `-n, --namespace <name>` → ['-n', '--namespace'] */
const optionNames = (flags: string): string[] => flags.split(/[ ,]+/).filter((word) => word.startsWith('-'));

interface Entry {
  words: string[];
  summary: string;
  options: { names: string[]; description: string }[];
}

function entries(commands: readonly CommandSpec[]): Entry[] {
  return commands.map(({ name, summary, options = [] }) => ({
    words: name.split(' '),
    summary,
    options: [
      ...options.map(({ flags, description }) => ({ names: optionNames(flags), description })),
      { names: ['--help'], description: 'print help' },
    ],
  }));
}

/** The script for a shell to evaluate. */
export function completionScript(shell: Shell, commands: readonly CommandSpec[]): string {
  const all = entries(commands);
  if (shell === 'fish') return fish(all);
  // zsh reads bash's scripts through bashcompinit.
  return shell === 'zsh' ? `#compdef fn\nautoload -U +X bashcompinit && bashcompinit\n${bash(all)}` : bash(all);
}

function bash(all: readonly Entry[]): string {
  const first = [...new Set(all.map(({ words }) => words[0]!))];
  const groups = new Map<string, string[]>();
  for (const { words } of all) if (words[1] !== undefined) groups.set(words[0]!, [...(groups.get(words[0]!) ?? []), words[1]]);
  const optionCases = all.map(
    ({ words, options }) => `    '${words.join(' ')}') options='${options.flatMap(({ names }) => names).join(' ')}' ;;`,
  );
  const groupCases = [...groups].map(
    ([name, subcommands]) => `    ${name}) COMPREPLY=($(compgen -W '${subcommands.join(' ')}' -- "$current")); return ;;`,
  );
  return `_fn() {
  local current=\${COMP_WORDS[COMP_CWORD]} command=\${COMP_WORDS[1]} options=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${first.join(' ')}' -- "$current"))
    return
  fi
  if [ "$COMP_CWORD" -eq 2 ]; then
    case $command in
${groupCases.join('\n')}
    esac
  fi
  case $command in ${[...groups.keys()].join('|')}) command="$command \${COMP_WORDS[2]}" ;; esac
  case $command in
${optionCases.join('\n')}
  esac
  case $current in
    -*) COMPREPLY=($(compgen -W "$options" -- "$current")) ;;
    *) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F _fn fn
`;
}

const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

function fish(all: readonly Entry[]): string {
  const lines: string[] = [];
  const seen = new Set<string>();
  for (const { words, summary, options } of all) {
    const [first, second] = words as [string, string | undefined];
    if (!seen.has(first))
      lines.push(`complete -c fn -n __fish_use_subcommand -a ${first} -d ${quoted(second === undefined ? summary : `${first} …`)}`);
    seen.add(first);
    if (second !== undefined) lines.push(`complete -c fn -n '__fish_seen_subcommand_from ${first}' -a ${second} -d ${quoted(summary)}`);
    const condition = words.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ');
    for (const { names, description } of options) {
      const flags = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(' ');
      lines.push(`complete -c fn -n '${condition}' ${flags} -d ${quoted(description)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}
