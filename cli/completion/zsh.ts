/** Completion for zsh 5, with descriptions. */
import { type CommandModel, type OptionModel, type Place, type ScriptModel, firstWords, groupsOf, secondWords } from './model.ts';

/** A word of the script that zsh takes as it is. */
const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;
/** Within [ ] of a specification of _arguments. */
const explained = (text: string): string => text.replaceAll(/[[\]\\:]/g, String.raw`\$&`);

/** The action of a specification. With a blank before it zsh runs it as it is. */
function action(place: Place): string {
  if (typeof place !== 'string') return `(${place.words.join(' ')})`;
  if (place === 'any') return ' ';
  if (place === 'file') return '_files';
  if (place === 'folder') return '_files -/';
  return place === 'target' ? ' _fn_target' : ` _fn_values ${place}`;
}

function optionSpec({ names, description, place, repeatable, placeholder }: OptionModel): string {
  const others = repeatable ? quoted('*') : names.length > 1 ? quoted(`(${names.join(' ')})`) : '';
  const flag = (name: string) => (place === null ? name : name.startsWith('--') ? `${name}=` : `${name}+`);
  const tail = `[${explained(description)}]${place === null ? '' : `:${explained(placeholder)}:${action(place)}`}`;
  const heads = names.map(flag);
  return `${others}${heads.length > 1 ? `{${heads.join(',')}}` : quoted(heads[0]!)}${quoted(tail)}`;
}

function commandFunction({ name, options, args }: CommandModel): string {
  const specs = [
    ...options.map(optionSpec),
    // None is marked as optional: zsh would also offer what may come after it.
    ...args.map(({ name: arg, place, variadic }) => quoted(`${variadic ? '*' : ''}:${explained(arg)}:${action(place)}`)),
  ];
  return `_fn_${name.replaceAll(/[ -]/g, '_')}() {\n  _arguments -s -S ${specs.map((spec) => `\\\n    ${spec}`).join(' ')}\n}`;
}

const described = (all: readonly { word: string; summary: string }[]): string =>
  all.map(({ word, summary }) => `    ${quoted(`${word}:${summary}`)}`).join('\n');

function listFunction(name: string, all: readonly { word: string; summary: string }[]): string {
  return `_fn_commands_${name.replaceAll('-', '_')}() {\n  local -a commands=(\n${described(all)}\n  )\n  _describe -t commands command commands\n}`;
}

export function zshScript(model: ScriptModel): string {
  const { commands, aliases } = model;
  const groups = groupsOf(model);
  const call = (name: string) => `_fn_${name.replaceAll(/[ -]/g, '_')}`;
  const pattern = (name: string, depth: number) =>
    [name, ...[...aliases].filter(([, full]) => full === name).map(([alias]) => alias)].map((one) => one.split(' ')[depth]!).join('|');
  const top = commands.filter(({ name }) => !name.includes(' '));
  return `#compdef fn
# zsh completion for fn: fn completion zsh > a folder of $fpath, as _fn; or: source <(fn completion zsh)

# A line for each: the value, a tab, what it is.
_fn_values() {
  local -a found suffix
  local value text
  while IFS=$'\\t' read -r value text; do
    found+=("\${value//:/\\\\:}:$text")
  done < <("$fn_program" complete $1 -- "\${fn_line[@]}" 2>/dev/null </dev/null)
  [[ $1 == share ]] && suffix=(-S '')
  _describe -t $1 $1 found $suffix
}

_fn_target() {
  _alternative 'functions:function: _fn_values target' 'files:file:_files'
}

${listFunction('all', firstWords(model))}

${groups.map((group) => listFunction(group, secondWords(model, group))).join('\n\n')}

${commands.map(commandFunction).join('\n\n')}

${groups
  .map(
    (group) => `_fn_group_${group}() {
  local curcontext=$curcontext state
  local -a line
  _arguments -C ${quoted('(- *)')}{-h,--help}${quoted('[print help]')} '1:command:_fn_commands_${group}' '*::argument:->rest'
  [[ $state == rest ]] || return
  case $line[1] in
${secondWords(model, group)
  .map(({ word }) => `    ${pattern(`${group} ${word}`, 1)}) ${call(`${group} ${word}`)} ;;`)
  .join('\n')}
  esac
}`,
  )
  .join('\n\n')}

_fn() {
  local fn_program=\${words[1]/#\\~/$HOME}
  local -a fn_line=("\${(@)words[2,CURRENT-1]}")
  local curcontext=$curcontext state
  local -a line
  typeset -A opt_args
  _arguments -C ${quoted('(- *)')}{-h,--help}${quoted('[print help]')} ${quoted('(- *)')}{-V,--version}${quoted('[print the version]')} \\
    '1:command:_fn_commands_all' '*::argument:->rest'
  [[ $state == rest ]] || return
  case $line[1] in
${top.map(({ name }) => `    ${pattern(name, 0)}) ${call(name)} ;;`).join('\n')}
${groups.map((group) => `    ${group}) _fn_group_${group} ;;`).join('\n')}
  esac
}

# As a file of $fpath it is the function itself; sourced, it is told of.
if [[ \${funcstack[1]} == _fn ]]; then _fn "$@"; else compdef _fn fn; fi
`;
}
