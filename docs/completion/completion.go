// Package completion writes the scripts by which a shell completes a command line, from a description of what may stand on
// it. It knows how bash, zsh and fish are told, and nothing of holdfast's flags.
//
// The command line is that of a program which runs another: its own flags end where the other's command begins, and what
// is behind that is completed as if the other stood alone.
package completion

import (
	"fmt"
	"strings"
)

// Scope is what has flags of its own: the program itself, or one of its commands.
type Scope struct {
	Name, Summary string   // of a command; empty for the program
	Words         []string // those that may stand behind a command's flags
	Directory     bool     // it is a directory that stands there
	Options       []Option
}

// Option is one flag.
type Option struct {
	Name, Short string // without the dashes; Short may be empty
	Usage       string
	Kind        Kind
	Words       []string // Words: what the value is, or begins with
	Repeatable  bool
}

// Kind is what the value of a flag is.
type Kind int

// The kinds of values.
const (
	None      Kind = iota // a switch, which takes none
	Text                  // anything; it cannot be completed
	Words                 // one of a few words
	File                  // a path
	Directory             // a path of a directory
	Command               // a program
)

// Shells lists those that there are scripts for.
func Shells() []string { return []string{"bash", "zsh", "fish"} }

// Script returns the script for that shell. The first scope is the program, called by that name, the others are its
// commands.
func Script(shell, program string, scopes []Scope) (string, error) {
	script := ""
	switch shell {
	case "bash":
		script = bash(scopes)
	case "zsh":
		script = zsh(scopes)
	case "fish":
		script = fish(scopes)
	default:
		return "", fmt.Errorf("there is no script for %q: want bash, zsh or fish", shell)
	}
	return strings.ReplaceAll(script, "PROGRAM", program), nil
}

// valued lists the flags whose value is the next word.
func valued(options []Option) []string {
	var all []string
	for _, o := range options {
		if o.Kind != None {
			all = append(all, o.flags()...)
		}
	}
	return all
}

// flags lists the option as it may be typed.
func (o Option) flags() []string {
	if o.Short == "" {
		return []string{"--" + o.Name}
	}
	return []string{"-" + o.Short, "--" + o.Name}
}
