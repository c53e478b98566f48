package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"

	"holdfast/handoff"
	"holdfast/handoff/ready"
	"holdfast/reaper"
)

// personality is another init, whose command line is read and whose ways are taken where this binary is called by its
// name: one symbolic link tries holdfast in its place. Of holdfast's own there is nothing then: no handoff, no takeover,
// no probes, and none of its variables. What each of them is, is in tools.go.
type personality struct {
	name    string
	version string
	getopt  getopt // without take
	// plainVersion: --version counts only where nothing stands beside it, and is no option.
	plainVersion bool
	// helpAside and versionAside: they go to stderr.
	helpAside, versionAside bool
	licence                 byte // the option that asks for it

	// before reads variables before the options, after does behind them and settles what has been read.
	before func(f *flags, variables map[string]string) error
	option func(f *flags, letter byte, value string) error
	after  func(f *flags, variables map[string]string)

	// misused and nothing are what is said of an option that is none, behind its error, and where there is no command.
	misused, nothing func(p personality) string
}

// personalityOf returns the init that a program of that path is.
func personalityOf(argv0 string) (personality, bool) {
	name := filepath.Base(argv0)
	switch name {
	case "tini", "tini-static", "docker-init":
		return tini(name), true
	case "dumb-init":
		return dumbInit(), true
	case "catatonit":
		return catatonit(), true
	}
	return personality{}, false
}

// said ends the program with a text.
type said struct {
	text   string
	code   int
	stdout bool
}

func (s said) Error() string { return s.text }

func (s said) say(out, stderr io.Writer) (code int) {
	if !s.stdout {
		out = stderr
	}
	fmt.Fprintln(out, s.text)
	return s.code
}

//go:embed LICENSE
var licence string

// parse reads the tool's command line.
func (p personality) parse(args, environ []string) (*flags, error) {
	f := &flags{rewrite: map[syscall.Signal]syscall.Signal{}, remapExit: map[int]int{}}
	f.define()
	f.probeAddr, f.plain, f.takeover, f.reloadSignal = "", true, handoff.TakeoverOff, 0
	f.stopSignal, f.logLevel, f.logFormat = syscall.SIGTERM, slog.LevelError, "text"
	f.ready = []ready.Mode{{Kind: ready.Delay}} // nobody asks
	variables := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		variables[name] = value
	}
	if p.plainVersion && len(args) == 1 && args[0] == "--version" {
		return f, said{p.version, 0, true}
	}
	if err := p.before(f, variables); err != nil {
		return f, err
	}
	if _, ok := variables["POSIXLY_CORRECT"]; ok { // getopt(3) minds it
		p.getopt.permutes = false
	}
	p.getopt.take = func(letter byte, value string) error { return p.take(f, letter, value) }
	rest, err := p.getopt.parse(args)
	var out said
	switch {
	case errors.As(err, &out):
		return f, out
	case err != nil:
		return f, said{strings.TrimSpace(err.Error() + "\n" + p.misused(p)), 1, false}
	}
	p.after(f, variables)
	if f.pause {
		return f, nil
	}
	if f.command = rest; len(rest) == 0 {
		return f, said{p.nothing(p), 1, false}
	}
	if rest[0] == "" {
		return f, said{p.name + ": the command is empty", reaper.CodeNotFound, false}
	}
	return f, nil
}

// take takes one option.
func (p personality) take(f *flags, letter byte, value string) error {
	switch letter {
	case 'h':
		return said{p.help(), 0, !p.helpAside}
	case 'V':
		return said{p.version, 0, !p.versionAside}
	case p.licence:
		return said{strings.TrimSpace(licence), 0, true}
	}
	return p.option(f, letter, value)
}

// usage is one line.
func (p personality) usage() string {
	letters := ""
	for _, o := range p.getopt.options {
		letters += string(o.letter)
	}
	return fmt.Sprintf("usage: %s [-%s] [--] command [args…]", p.name, letters)
}

// help lists the options.
func (p personality) help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\nThis is holdfast %s, called by that name; what it has of its own: holdfast --help\n\n", p.version, p.usage(), version)
	for _, o := range p.getopt.options {
		words := "-" + string(o.letter)
		if o.long != "" {
			words += ", --" + o.long
		}
		if o.value != "" {
			words += " " + o.value
		}
		fmt.Fprintf(&b, "  %-22s %s\n", words, o.help)
	}
	if p.plainVersion {
		fmt.Fprintf(&b, "  %-22s %s\n", "--version", "print the version, if nothing stands beside it")
	}
	return strings.TrimSpace(b.String())
}
