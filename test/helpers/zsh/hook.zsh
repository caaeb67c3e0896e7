# Sourced by the shell that capture.zsh drives: matches are written, between marks, in place of being shown.
bindkey '^I' complete-word
zstyle ':completion:*' list-grouped false
zstyle ':completion:*' insert-tab false
zstyle ':completion:*' verbose yes
_begin() { print -n -r -- $'\x01BEGIN\x01' }
_end() { print -n -r -- $'\x01END\x01' }
compprefuncs=( _begin )
comppostfuncs=( _end )
# Each match is told, in place of being shown.
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
  local -a hits shown
  local at=${@[(I)-d]}
  if (( at )); then
    if [[ ${@[at+1]} == \(* ]]; then eval "shown=${@[at+1]}"; else shown=( "${(@P)@[at+1]}" ); fi
  fi
  builtin compadd -A hits -D shown "$@"
  local index
  for index in {1..$#hits}; do print -r -- "$hits[index]"$'\t'"${shown[index]}"; done
  builtin compadd "$@"
}
