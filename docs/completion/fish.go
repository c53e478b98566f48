package completion

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// fish takes one line for each option.
func fish(all []Scope) string {
	var b strings.Builder
	b.WriteString(`# fish completion for PROGRAM: put it into ~/.config/fish/completions/PROGRAM.fish, or source it.

# Where on the line we are: prints the command of PROGRAM's own, - before any word that is no flag, or nothing behind
# the beginning of the child's command.
function __PROGRAM_context
	set -l tokens (commandline -opc)
	set -e tokens[1]
	set -l value 0
	set -l first 1
	for token in $tokens
		if test $value = 1
			set value 0
		else if test "$token" = --
			return
		else if contains -- "$token" ` + strings.Join(valued(all[0].Options), " ") + `
			set value 1
		else if string match -q -- '-*' "$token"
		else
			test $first = 1; and contains -- "$token" `)
	for _, c := range all[1:] {
		b.WriteString(c.Name + " ")
	}
	b.WriteString(`; and echo $token
			return
		end
		set first 0
	end
	echo -
end

function __PROGRAM_in
	test "$(__PROGRAM_context)" = $argv[1]
end

function __PROGRAM_first
	test (count (commandline -opc)) = 1
end

complete -c PROGRAM -n '__PROGRAM_in -' -xa '(__fish_complete_command)'
`)
	fmt.Fprintf(&b, "complete -c PROGRAM -n 'test -z \"$(__PROGRAM_context)\"' -xa '(__fish_complete_subcommand %s)'\n", strings.Join(shortFirst(valued(all[0].Options)), " "))
	for _, c := range all {
		name := c.Name
		if name == "" {
			name = "-"
		} else {
			fmt.Fprintf(&b, "complete -c PROGRAM -n __PROGRAM_first -xa %s -d %s\n", c.Name, fishQuote(c.Summary))
		}
		in := fmt.Sprintf("complete -c PROGRAM -n '__PROGRAM_in %s'", name)
		switch {
		case len(c.Words) > 0:
			fmt.Fprintf(&b, "%s -xa %s\n", in, fishQuote(strings.Join(c.Words, " ")))
		case c.Directory:
			fmt.Fprintf(&b, "%s -xa '(__fish_complete_directories)'\n", in)
		case c.Name != "":
			fmt.Fprintf(&b, "%s -f\n", in)
		}
		for _, o := range c.Options {
			fmt.Fprintf(&b, "%s -l %s", in, o.Name)
			if o.Short != "" {
				fmt.Fprintf(&b, " -s %s", o.Short)
			}
			switch o.Kind {
			case Words:
				fmt.Fprintf(&b, " -xa %s", fishQuote(strings.Join(o.Words, " ")))
			case File:
				b.WriteString(" -rF")
			case Directory:
				b.WriteString(" -xa '(__fish_complete_directories)'")
			case Command:
				b.WriteString(" -xa '(__fish_complete_command)'")
			case Text:
				b.WriteString(" -x")
			}
			fmt.Fprintf(&b, " -d %s\n", fishQuote(o.Usage))
		}
	}
	return b.String()
}

// shortFirst keeps __fish_complete_subcommand from taking the first of the flags for options of its own, which are long.
func shortFirst(flags []string) []string {
	slices.SortStableFunc(flags, func(a, b string) int { return cmp.Compare(min(len(a), 3), min(len(b), 3)) })
	return flags
}

func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
