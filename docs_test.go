package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the documents that are made from the table of the flags anew")

// TestDocuments: docs/flags.md and the man page are what the table of the flags says now.
func TestDocuments(t *testing.T) {
	for name, text := range map[string]string{"flags.md": flagsPage(), "holdfast.1": manPage()} {
		path := filepath.Join("docs", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(was, []byte(text)) {
			t.Errorf("%s is stale: run make docs", path)
		}
	}
}

// TestSections: each flag is in one of the table's sections, and in one only.
func TestSections(t *testing.T) {
	var f flags
	f.define()
	seen := map[string]bool{}
	for _, g := range f.groups() {
		if len(g.flags) == 0 {
			t.Errorf("section %q is empty", g.title)
		}
		for _, flag := range g.flags {
			if seen[flag.Name] {
				t.Errorf("--%s is in two sections", flag.Name)
			}
			seen[flag.Name] = true
		}
	}
	f.set.VisitAll(func(flag *pflag.Flag) {
		if !seen[flag.Name] {
			t.Errorf("--%s is in no section", flag.Name)
		}
		if strings.Contains(flag.Usage, "default") && flag.Name != "single-child" {
			t.Errorf("--%s says its default in its text, too", flag.Name)
		}
	})
}

// flagsPage is docs/flags.md.
func flagsPage() string {
	var f flags
	f.define()
	var b strings.Builder
	b.WriteString("# Flags\n\nMade from the table in `flagtable.go` by `make docs`; `holdfast --help` and `man holdfast` say the same.\n\n")
	b.WriteString(strings.ReplaceAll(variablesText, "\n", " ") + "\n")
	for _, g := range f.groups() {
		fmt.Fprintf(&b, "\n## %s\n\n| flag | variable | default | |\n|---|---|---|---|\n", g.title)
		for _, flag := range g.flags {
			b.WriteString(row(flag, "`"+variable(flag.Name)+"`"))
		}
	}
	b.WriteString("\n## Commands\n\nEach asks the holdfast of its own container, over a socket that nobody else can use. A program of such a name:\n`holdfast -- reload`.\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "\n**`%s`**: %s\n", c.synopsis(), c.summary)
		set, _ := c.flags()
		if !set.HasFlags() {
			continue
		}
		b.WriteString("\n| flag | default | |\n|---|---|---|\n")
		set.VisitAll(func(flag *pflag.Flag) { b.WriteString(row(flag)) })
	}
	b.WriteString("\n## Exit codes\n\n" + strings.TrimPrefix(exitText, "Exit codes: ") + "\n")
	return strings.ReplaceAll(b.String(), "the child's; 128+N", "The child's; 128+N")
}

func row(flag *pflag.Flag, columns ...string) string {
	placeholder, usage := pflag.UnquoteUsage(flag)
	name := "`--" + flag.Name
	if !isSwitch(flag) {
		name += " " + placeholder
	}
	name += "`"
	if flag.Shorthand != "" {
		name = "`-" + flag.Shorthand + "`, " + name
	}
	if flag.Name == "version" && len(columns) > 0 {
		columns[0] = ""
	}
	columns = append([]string{name}, append(columns, defaultOf(flag), strings.ReplaceAll(usage, "|", `\|`))...)
	return "| " + strings.Join(columns, " | ") + " |\n"
}

// manPage is docs/holdfast.1, in the words of man(7).
func manPage() string {
	var f flags
	f.define()
	var b strings.Builder
	b.WriteString(`.\" Made from the table in flagtable.go by make docs.
.TH HOLDFAST 1
.SH NAME
holdfast \- a container's PID 1 that swaps the server behind its ports in place
.SH SYNOPSIS
.B holdfast
.RI [ flags ]
.RB [ \-\- ]
.I command
.RI [ args \&.\|.\|.]
`)
	for _, c := range commands() {
		fmt.Fprintf(&b, ".br\n.B %s\n", roff(c.synopsis()))
	}
	b.WriteString(`.SH DESCRIPTION
.B holdfast
runs
.I command
as the first process of a container does: it reaps what is left behind and forwards signals.
And it holds the ports on which the command listens.
On SIGHUP, on
.BR "holdfast reload" ,
or when watched content changes, it starts a new generation of the command beside the live one, has it prove that it is
ready through connections that nobody else makes, turns the switch, and drains and stops the old generation.
If the new one fails, the old one goes on serving.
No connection is refused, reset or lost.
.PP
`)
	b.WriteString(roff(variablesText) + "\n.SH OPTIONS\n")
	for _, g := range f.groups() {
		fmt.Fprintf(&b, ".SS %s\n", roff(g.title))
		for _, flag := range g.flags {
			b.WriteString(manFlag(flag))
		}
	}
	b.WriteString(".SH COMMANDS\nEach asks the holdfast of its own container. A program of such a name:\n.BR \"holdfast \\-\\- reload\" .\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, ".SS %s\n%s.\n", roff(c.synopsis()), roff(capital(c.summary)))
		set, _ := c.flags()
		set.VisitAll(func(flag *pflag.Flag) { b.WriteString(manFlag(flag)) })
	}
	b.WriteString(`.SH SIGNALS
.TP
.B SIGHUP
A handoff, unless
.B \-\-reload\-signal
names another.
.TP
.B SIGTERM
The end: every generation gets its stop signal.
.TP
.BR SIGINT ", " SIGQUIT
Passed on to every generation.
.PP
Every other signal is passed on to the live generation.
.SH ENDPOINTS
.TP
.B /livez
Whether holdfast itself is alive.
.TP
.B /readyz
Whether traffic may come; checks
.BR live ", " handoff " and " shutdown ,
each of which
.B ?exclude=
leaves out.
.TP
.B /statusz
Everything: a page for a browser, JSON for a program,
.B ?format=text
for a terminal.
.TP
.B /metrics
For Prometheus.
.SH EXIT STATUS
`)
	b.WriteString(roff(capital(strings.TrimPrefix(exitText, "Exit codes: "))) + "\n")
	b.WriteString(`.SH EXAMPLES
.EX
holdfast \-\- nginx \-g 'daemon off;'
holdfast \-\-listen :8080 \-\-check 'nginx \-t' \-\-watch /etc/nginx \-\- nginx \-g 'daemon off;'
kill \-HUP 1
holdfast reload \-\-wait && echo live
.EE
.SH SEE ALSO
.BR tini (1),
.BR systemd.socket (5),
.BR sd_notify (3)
`)
	return b.String()
}

func manFlag(flag *pflag.Flag) string {
	placeholder, usage := pflag.UnquoteUsage(flag)
	name := `\-\-` + roff(flag.Name)
	if flag.Shorthand != "" {
		name = `\-` + flag.Shorthand + ", " + name
	}
	head := ".B " + name
	if !isSwitch(flag) {
		head = fmt.Sprintf(".BI %q %q", name+" ", roff(placeholder))
	}
	return fmt.Sprintf(".TP\n%s\n%s (default: %s).\n", head, roff(capital(usage)), roff(defaultOf(flag)))
}

// roff keeps what means something to it from meaning it.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\&.\|.\|.`, "'", `\(aq`).Replace(text)
	return strings.ReplaceAll(text, "\n.", "\n\\&.")
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
