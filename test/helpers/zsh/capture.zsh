# capture.zsh LINE SCRIPT: what zsh offers for a line with a completion script: a value, a tab, how it is shown; a line each.
zmodload zsh/zpty || exit 1
zpty z $ZSH_BIN -f -i
zpty -w z "module_path=($module_path); fpath=($fpath); PROMPT=; RPROMPT=; stty -echo"
zpty -w z "autoload -Uz compinit && compinit -u -D"
zpty -w z "source $2; source ${0:h}/hook.zsh; print -r -- RE''ADY"
out=''
zpty -r -m z out '*READY*' || exit 1
zpty -n -w z "$1"$'\t'
out=''
zpty -r -m z out $'*\x01END\x01*' || exit 1
print -r -- ${${out#*$'\x01BEGIN\x01'}%$'\x01END\x01'*}
zpty -d z
