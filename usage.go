package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// section is a group of flags in the table: all that are defined from the first on, up to the next section.
type section struct {
	title string
	first int // how many flags have been defined before it
}

// section begins one.
func (f *flags) section(title string) {
	n := 0
	f.set.VisitAll(func(*pflag.Flag) { n++ })
	f.sections = append(f.sections, section{title, n})
}

// group is a section with its flags.
type group struct {
	title string
	flags []*pflag.Flag
}

// groups returns all flags, in the table's order.
func (f *flags) groups() []group {
	var all []*pflag.Flag
	f.set.VisitAll(func(flag *pflag.Flag) { all = append(all, flag) })
	var groups []group
	for i, s := range f.sections {
		end := len(all)
		if i+1 < len(f.sections) {
			end = f.sections[i+1].first
		}
		groups = append(groups, group{s.title, all[s.first:end]})
	}
	return groups
}

// usages lists the group's flags for the help.
func (g group) usages(width int) string {
	set := pflag.NewFlagSet(g.title, pflag.ContinueOnError)
	set.SortFlags = false
	for _, flag := range g.flags {
		set.AddFlag(flag)
	}
	return set.FlagUsagesWrapped(width)
}

// defaultOf is a flag's default as the documents show it.
func defaultOf(flag *pflag.Flag) string {
	switch {
	case isSwitch(flag):
		return "off"
	case flag.DefValue == "":
		return "none"
	}
	return flag.DefValue
}

// isSwitch says whether the flag is on or off, and takes no value.
func isSwitch(flag *pflag.Flag) bool { return flag.NoOptDefVal != "" }

const helpWidth = 110

// usage is the text of holdfast --help.
func usage(f *flags) string {
	var b strings.Builder
	b.WriteString("holdfast: a container's PID 1 that holds the listening ports and swaps the server behind them in place.\n\n")
	b.WriteString("  holdfast [flags] [--] command [args…]     run command; SIGHUP hands over to a new generation of it\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-40s  %s\n", c.synopsis(), c.summary)
	}
	b.WriteString("\nA command of such a name: holdfast -- reload. A command's own flags: holdfast reload --help.\n")
	b.WriteString("\n" + variablesText + "\n")
	for _, g := range f.groups() {
		fmt.Fprintf(&b, "\n%s:\n%s", g.title, g.usages(helpWidth))
	}
	b.WriteString("\n" + exitText + "\n")
	return b.String()
}

const (
	variablesText = "Every flag has a variable: HOLDFAST_DRAIN_TIMEOUT for --drain-timeout, with one value a line where the flag is\nrepeatable; the flag wins. Flags end at the first word that is not one."
	exitText      = "Exit codes: the child's; 128+N for signal N; 125 holdfast's own error, 126 cannot be executed, 127 not found."
)
