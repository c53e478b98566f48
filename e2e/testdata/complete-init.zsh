# Sourced by the shell that complete.zsh runs, with the script to try.
PROMPT=
autoload -Uz compinit
compinit -u -D
source $1
bindkey '^I' complete-word
compadd() {
	if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
		builtin compadd "$@"
		return
	fi
	local -a matches
	builtin compadd -A matches "$@"
	local m
	for m in $matches; do print -r -- $'\n'"match $m"; done
}
finish() { print; print end-of-matches }
comppostfuncs=(finish)
_sample() { _arguments --color }
compdef _sample sample
print ready-to-complete
