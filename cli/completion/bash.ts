/** Completion for bash 4.4 and later; needs no other package. */
import { type CommandModel, type Place, type ScriptModel, firstWords, groupsOf, secondWords } from './model.ts';

const placeWord = (place: Place): string => (typeof place === 'string' ? place : `words:${place.words.join(' ')}`);

/** `'deploy --memory'|'diff --memory') place='any' ;;`, places that are the same together. */
function cases(pairs: readonly (readonly [pattern: string, place: string])[]): string {
  const byPlace = Map.groupBy(pairs, ([, place]) => place);
  return [...byPlace].map(([place, all]) => `    ${all.map(([pattern]) => pattern).join(' | ')}) place='${place}' ;;`).join('\n');
}

function optionCases(commands: readonly CommandModel[]): string {
  return cases(
    commands.flatMap(({ name, options }) =>
      options.flatMap(({ names, place }) => (place === null ? [] : names.map((flag) => [`'${name} ${flag}'`, placeWord(place)] as const))),
    ),
  );
}

function argumentCases(commands: readonly CommandModel[]): string {
  return cases(
    commands.flatMap(({ name, args }) =>
      args.map(({ place, variadic }, index) => [variadic ? `'${name} '*` : `'${name} ${index}'`, placeWord(place)] as const),
    ),
  );
}

const words = (all: readonly { word: string }[]): string => all.map(({ word }) => word).join(' ');

export function bashScript(model: ScriptModel): string {
  const { commands, aliases } = model;
  const groups = groupsOf(model);
  return `# bash completion for fn: source <(fn completion bash)

# Words as they were typed; bash cuts them at = and : too.
_fn_words() {
  local rest=$COMP_LINE piece index
  words=()
  for ((index = 0; index <= COMP_CWORD; index++)); do
    piece=\${COMP_WORDS[index]}
    if ((index == 0)) || [[ $rest == [[:space:]]* ]]; then
      words+=("$piece")
    else
      words[\${#words[@]}-1]+=$piece
    fi
    rest=\${rest#"\${rest%%[![:space:]]*}"}
    rest=\${rest#"$piece"}
  done
}

# What the value of an option may be; nothing: no value follows.
_fn_option() {
  place=''
  case "$1 $2" in
${optionCases(commands)}
  esac
}

_fn_argument() {
  place=''
  case "$1 $2" in
${argumentCases(commands)}
  esac
}

_fn_flags() {
  case $1 in
${commands.map(({ name, options }) => `    '${name}') flags='${options.flatMap(({ names }) => names).join(' ')}' ;;`).join('\n')}
    *) flags='-h --help' ;;
  esac
}

_fn_full() {
  case $command in
${[...aliases].map(([alias, name]) => `    '${alias}') command='${name}' ;;`).join('\n')}
  esac
}

# Offers words that begin with what was typed. They are compared, never evaluated.
_fn_offer() {
  local word
  for word in "$@"; do
    [[ $word == "$value"* ]] && COMPREPLY+=("$before$word")
  done
}

_fn_place() {
  local name rest
  case $place in
    '' | any) ;;
    words:*) _fn_offer \${place#words:} ;;
    file | folder)
      compopt -o filenames 2>/dev/null
      local -a found
      if [[ $place == file ]]; then mapfile -t found < <(compgen -f -- "$value"); else mapfile -t found < <(compgen -d -- "$value"); fi
      COMPREPLY+=("\${found[@]/#/$before}")
      ;;
    *)
      while IFS=$'\\t' read -r name rest; do
        _fn_offer "$name"
      done < <("\${words[0]/#\\~/$HOME}" complete "$place" -- "\${words[@]:1:last-1}" 2>/dev/null </dev/null)
      if [[ $place == share ]]; then compopt -o nospace 2>/dev/null; fi
      if [[ $place == target ]]; then
        place=file
        _fn_place
      fi
      ;;
  esac
}

_fn() {
  local -a words
  local last at word value before='' command='' option='' plain='' flags='' place=''
  local -i index=0
  COMPREPLY=()
  _fn_words
  last=$((\${#words[@]} - 1))
  value=\${words[last]}
  for ((at = 1; at < last; at++)); do
    word=\${words[at]}
    if [[ -n $option ]]; then
      option=''
    elif [[ -z $plain && $word == -- ]]; then
      plain=1
    elif [[ -z $plain && $word == --*=* ]]; then
      :
    elif [[ -z $plain && $word == -?* ]]; then
      _fn_option "$command" "$word"
      if [[ -n $place ]]; then option=$word; fi
    elif [[ -z $command ]]; then
      command=$word
      _fn_full
    elif [[ ' ${groups.join(' ')} ' == *" $command "* ]]; then
      command="$command $word"
      _fn_full
    else
      index+=1
    fi
  done
  place=''
  if [[ -n $option ]]; then
    _fn_option "$command" "$option"
  elif [[ -z $plain && $value == --*=* ]]; then
    _fn_option "$command" "\${value%%=*}"
    before="\${value%%=*}="
    value=\${value#*=}
  elif [[ -z $plain && $value == -* ]]; then
    _fn_flags "$command"
    [[ -n $command ]] || flags='-h --help -V --version'
    place="words:$flags"
  elif [[ -z $command ]]; then
    place='words:${words(firstWords(model))}'
  else
    case $command in
${groups.map((group) => `      ${group}) place='words:${words(secondWords(model, group))}' ;;`).join('\n')}
      *) _fn_argument "$command" "$index" ;;
    esac
  fi
  _fn_place
  # bash puts in what stands behind its last = or :, not the whole word.
  local piece=\${COMP_WORDS[COMP_CWORD]} cut
  if [[ $piece == [=:] ]]; then piece=''; fi
  cut=\${words[last]%"$piece"}
  COMPREPLY=("\${COMPREPLY[@]#"$cut"}")
}

complete -F _fn fn
`;
}
