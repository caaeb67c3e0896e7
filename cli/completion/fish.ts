/** Completion for fish 3 and later, with descriptions. */
import { type CommandModel, type Place, type ScriptModel, firstWords, groupsOf, secondWords } from './model.ts';

const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

/** What `-a` takes, with -x where no files are wanted. */
function offer(place: Place): string {
  if (typeof place !== 'string') return `-x -a ${quoted(place.words.join(' '))}`;
  if (place === 'any') return '-x';
  if (place === 'file') return '-r -F';
  if (place === 'folder') return `-x -a '(__fish_complete_directories)'`;
  return place === 'target' ? `-F -a '(__fn_values target)'` : `-x -a '(__fn_values ${place})'`;
}

function optionLines({ name, options }: CommandModel): string[] {
  return options.map(({ names, place, description }) => {
    const flags = names.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`)).join(' ');
    const value = place === null ? '' : ` ${offer(place).replace(/^-F/, '-r -F')}`;
    return `complete -c fn -n ${quoted(`__fn_at '${name}'`)} ${flags}${value} -d ${quoted(description)}`;
  });
}

function argumentLines({ name, args }: CommandModel): string[] {
  return args.flatMap(({ place, variadic }, index) => {
    if (place === 'any') return [];
    const offered = place === 'file' ? '-F' : offer(place).replace('-x ', '');
    return [`complete -c fn -n ${quoted(`__fn_at '${name}' ${variadic ? `${index}-` : index}`)} ${offered}`];
  });
}

export function fishScript(model: ScriptModel): string {
  const { commands, aliases } = model;
  const groups = groupsOf(model);
  const valued = commands.flatMap(({ name, options }) =>
    options.flatMap(({ names, place }) => (place === null ? [] : names.map((flag) => `'${name} ${flag}'`))),
  );
  return `# fish completion for fn: fn completion fish > ~/.config/fish/completions/fn.fish

set -g __fn_groups ${groups.join(' ')}
set -g __fn_valued ${valued.join(' ')}

# Whether the line is at this command; and at this argument of it: 0 the first, 1- the second and all after it.
function __fn_at
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -e words[1]
    set -l command ''
    set -l index 0
    set -l skip 0
    set -l plain 0
    for word in $words
        if test $skip = 1
            set skip 0
            continue
        end
        if test $plain = 0; and string match -q -- '-?*' $word
            if test "$word" = --
                set plain 1
            else if contains -- "$command $word" $__fn_valued
                set skip 1
            end
            continue
        end
        if test -z "$command"
            set command $word
        else if contains -- "$command" $__fn_groups
            set command "$command $word"
        else
            set index (math $index + 1)
            continue
        end
        switch $command
${[...aliases].map(([alias, name]) => `            case '${alias}'\n                set command '${name}'`).join('\n')}
        end
    end
    test "$command" = "$argv[1]"; or return 1
    set -q argv[2]; or return 0
    string match -q -- '-*' $current; and test $plain = 0; and return 1
    if string match -q -- '*-' $argv[2]
        test $index -ge (string replace -- - '' $argv[2])
    else
        test $index = $argv[2]
    end
end

# A line for each: the value, a tab, what it is.
function __fn_values
    set -l words (commandline -opc)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    $program complete $argv[1] -- $words[2..-1] 2>/dev/null </dev/null
end

complete -c fn -f
complete -c fn -n "__fn_at ''" -s V -l version -d 'print the version'
complete -c fn -n "__fn_at ''" -s h -l help -d 'print help'
${firstWords(model)
  .map(({ word, summary }) => `complete -c fn -n "__fn_at ''" -a ${word} -d ${quoted(summary)}`)
  .join('\n')}
${groups
  .flatMap((group) =>
    secondWords(model, group).map(
      ({ word, summary }) => `complete -c fn -n ${quoted(`__fn_at ${group}`)} -a ${word} -d ${quoted(summary)}`,
    ),
  )
  .join('\n')}
${commands.flatMap((command) => [...argumentLines(command), ...optionLines(command)]).join('\n')}
`;
}
