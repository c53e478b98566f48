package completion

import (
	"fmt"
	"strings"
)

// bash reads the line itself: the words that bash has made of it are broken at = and :, too.
func bash(all []Scope) string {
	var b strings.Builder
	b.WriteString(`# bash completion for PROGRAM: source it, or put it into /usr/share/bash-completion/completions/PROGRAM.

_PROGRAM() {
	local line=${COMP_LINE:0:COMP_POINT} words=() cur="" word context="" expects="" quoted="" n=0
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] || { cur=${words[-1]}; unset 'words[-1]'; }
	for word in "${words[@]:1}"; do
		((n++))
		if [[ -n $quoted ]]; then # within the quotes of a value
			[[ $word == *"$quoted" ]] && quoted="" expects=""
			continue
		fi
		if [[ -n $expects ]]; then
			case $word in
			\'*\' | \"*\") expects="" ;;
			[\'\"]*) quoted=${word:0:1} ;;
			*) expects="" ;;
			esac
			continue
		fi
		case $context:$word in
		*:--) _PROGRAM_command "$((n + 1))"; return ;;
`)
	for _, c := range all {
		var valued []string
		for _, o := range c.Options {
			if o.Kind != None {
				for _, flag := range o.flags() {
					valued = append(valued, c.Name+":"+flag)
				}
			}
		}
		if len(valued) > 0 {
			fmt.Fprintf(&b, "\t\t%s) expects=$word ;;\n", strings.Join(valued, " | "))
		}
	}
	b.WriteString("\t\t*:-*) ;;\n")
	var names []string
	for _, c := range all[1:] {
		names = append(names, c.Name)
	}
	fmt.Fprintf(&b, "\t\t:%s) ((n == 1)) && context=$word || { _PROGRAM_command \"$n\"; return; } ;;\n", strings.Join(names, " | :"))
	b.WriteString(`		:*) _PROGRAM_command "$n"; return ;;
		esac
	done

	local before=""
	if [[ -z $expects && $cur == --*=* ]]; then
		expects=${cur%%=*} before="$expects=" cur=${cur#*=}
	fi
	local reply=() space=1
	case $context:$expects in
`)
	for _, c := range all {
		for _, o := range c.Options {
			if how := bashValue(o); how != "" {
				var patterns []string
				for _, flag := range o.flags() {
					patterns = append(patterns, c.Name+":"+flag)
				}
				fmt.Fprintf(&b, "\t%s) %s ;;\n", strings.Join(patterns, " | "), how)
			}
		}
	}
	for _, c := range all {
		var flags []string
		for _, o := range c.Options {
			flags = append(flags, "--"+o.Name)
		}
		behind := c.Words
		if c.Name == "" {
			behind = names
		}
		fmt.Fprintf(&b, "\t%s:)\n\t\tif [[ $cur == -* ]]; then\n\t\t\tmapfile -t reply < <(compgen -W %s -- \"$cur\")\n",
			c.Name, quote(strings.Join(flags, " ")))
		rest := fmt.Sprintf("mapfile -t reply < <(compgen -W %s -- \"$cur\")", quote(strings.Join(behind, " ")))
		switch {
		case c.Name == "": // one of its commands, or the child's
			fmt.Fprintf(&b, "\t\telse\n\t\t\t((${#words[@]} == 1)) && %s\n\t\t\tmapfile -t -O \"${#reply[@]}\" reply < <(compgen -c -- \"$cur\")\n", rest)
		case c.Directory:
			b.WriteString("\t\telse\n\t\t\tcompopt -o filenames 2>/dev/null\n\t\t\tmapfile -t reply < <(compgen -d -- \"$cur\")\n")
		case len(behind) > 0:
			fmt.Fprintf(&b, "\t\telse\n\t\t\t%s\n", rest)
		}
		b.WriteString("\t\tfi ;;\n")
	}
	b.WriteString(`	esac
	# What bash takes for words of its own, up to the last = or :, is there already.
	local typed=$before$cur
	typed=${typed%"${typed##*[=:]}"}
	COMPREPLY=("${reply[@]/#/$before}")
	COMPREPLY=("${COMPREPLY[@]#"$typed"}")
	[[ ${#reply[@]} -eq 1 && ${reply[0]} == *: ]] && space=0
	((space)) || compopt -o nospace 2>/dev/null
}

# The child's command, which begins at that word of the line, completes as it does by itself.
_PROGRAM_command() {
	if declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	else
		compopt -o default 2>/dev/null
		COMPREPLY=()
	fi
}

complete -F _PROGRAM PROGRAM
`)
	return b.String()
}

func bashValue(o Option) string {
	switch o.Kind {
	case Words:
		return fmt.Sprintf(`mapfile -t reply < <(compgen -W %s -- "$cur")`, quote(strings.Join(o.Words, " ")))
	case File:
		return `compopt -o filenames 2>/dev/null; mapfile -t reply < <(compgen -f -- "$cur")`
	case Directory:
		return `compopt -o filenames 2>/dev/null; mapfile -t reply < <(compgen -d -- "$cur")`
	case Command:
		return `mapfile -t reply < <(compgen -c -- "$cur")`
	}
	return ""
}

// quote makes one word of the text for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
