package completion

import (
	"fmt"
	"strings"
)

// zsh has _arguments, which reads the line by a description of the options.
func zsh(all []Scope) string {
	var b strings.Builder
	b.WriteString(`#compdef PROGRAM
# zsh completion for PROGRAM: put it as _PROGRAM into a directory of $fpath, or source it.

_PROGRAM() {
	local -a commands
	commands=(
`)
	for _, c := range all[1:] {
		fmt.Fprintf(&b, "\t\t%s\n", quote(c.Name+":"+c.Summary))
	}
	b.WriteString(`	)
	if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
		_describe -t commands 'PROGRAM command' commands
		_command_names -e
		return
	fi
	case $words[2] in
`)
	for _, c := range all[1:] {
		fmt.Fprintf(&b, "\t%s)\n\t\tshift words; (( CURRENT-- ))\n\t\t_arguments -s -S", c.Name)
		zshOptions(&b, c.Options, "\t\t\t")
		switch {
		case len(c.Words) > 0:
			fmt.Fprintf(&b, " \\\n\t\t\t'1: :(%s)'", strings.Join(c.Words, " "))
		case c.Directory:
			b.WriteString(" \\\n\t\t\t'1:directory:_files -/'")
		}
		b.WriteString("\n\t\t;;\n")
	}
	b.WriteString("\t*)\n\t\t_arguments -s -S -A '-*'")
	zshOptions(&b, all[0].Options, "\t\t\t")
	b.WriteString(` \
			'*::command: _normal'
		;;
	esac
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
	_PROGRAM "$@"
else
	compdef _PROGRAM PROGRAM
fi
`)
	return b.String()
}

func zshOptions(b *strings.Builder, options []Option, indent string) {
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`)
	for _, o := range options {
		value := ""
		switch o.Kind {
		case Words:
			list := make([]string, len(o.Words))
			for i, w := range o.Words {
				list[i] = escape.Replace(w)
			}
			value = fmt.Sprintf(":%s:(%s)", o.Name, strings.Join(list, " "))
		case File:
			value = ":file:_files"
		case Directory:
			value = ":directory:_files -/"
		case Command:
			value = ":command:_command_names -e"
		case Text:
			value = ":" + o.Name + ": "
		}
		usage := "[" + escape.Replace(o.Usage) + "]"
		for _, flag := range o.flags() {
			exclude := "(" + strings.Join(o.flags(), " ") + ")"
			if o.Repeatable {
				exclude = "*"
			}
			if value != "" && strings.HasPrefix(flag, "--") {
				flag += "="
			} else if value != "" {
				flag += "+"
			}
			fmt.Fprintf(b, " \\\n%s%s", indent, quote(exclude+flag+usage+value))
		}
	}
}
