# complete.zsh SCRIPT LINE: what zsh offers at the end of the line. Only an interactive shell completes, so that one is
# run on a terminal of its own, in which compadd tells its matches.
zmodload zsh/zpty || exit 1
zpty z zsh -f -i
zpty -w z "source $0:A:h/complete-init.zsh $1"
zpty -r z text '*ready-to-complete*' || exit 1
zpty -w -n z "$2"$'\t'
while zpty -r z text; do
	[[ $text == *end-of-matches* ]] && break
	text=${text%%$'\r'*}
	[[ $text == 'match '* ]] && print -r -- ${text#match }
done
zpty -d z
