package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"holdfast/docs/completion"
)

func defineCompletion(*pflag.FlagSet) action {
	return func(words []string, out, stderr io.Writer) int {
		script, err := completion.Script(words[0], "holdfast", scopes())
		if err != nil {
			return complain(stderr, fmt.Errorf("holdfast completion: %w", err))
		}
		fmt.Fprint(out, script)
		return 0
	}
}

// scopes is the table of flags and commands as a shell completes it.
func scopes() []completion.Scope {
	var f flags
	f.define()
	all := []completion.Scope{{Options: options(f.set)}}
	for _, c := range commands() {
		set, _ := c.flags()
		one := completion.Scope{Name: c.name, Summary: c.summary, Options: options(set)}
		switch {
		case c.words == "DIR":
			one.Directory = true
		case c.words != "":
			one.Words = strings.Split(c.words, "|")
		}
		all = append(all, one)
	}
	return all
}

func options(set *pflag.FlagSet) []completion.Option {
	var all []completion.Option
	set.VisitAll(func(flag *pflag.Flag) {
		placeholder, usage := pflag.UnquoteUsage(flag)
		o := completion.Option{Name: flag.Name, Short: flag.Shorthand, Usage: usage, Repeatable: repeatable(flag)}
		if v, ok := flag.Value.(worded); ok {
			o.Words = v.possible()
		}
		switch {
		case isSwitch(flag):
		case len(o.Words) > 0:
			o.Kind = completion.Words
		case placeholder == "FILE" || placeholder == "PATH":
			o.Kind = completion.File
		case placeholder == "DIR":
			o.Kind = completion.Directory
		case placeholder == "COMMAND":
			o.Kind = completion.Command
		default:
			o.Kind = completion.Text
		}
		all = append(all, o)
	})
	return append(all, completion.Option{Name: "help", Short: "h", Usage: "print what there is to say"})
}
