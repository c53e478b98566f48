package main

import (
	"fmt"
	"slices"
	"strings"
)

// option is one of another tool's, as getopt(3) has it.
type option struct {
	letter byte
	long   string // without the dashes; empty = it has no long form
	value  string // what its value is called; empty = it takes none
	help   string
}

// getopt reads a command line as getopt_long(3) does, errors included, with one exception: options end at the first word that
// is not one. GNU's, with which Debian's tini and catatonit are built, would go on and take those of the command for the
// init's own.
type getopt struct {
	name     string // of the program, for its errors
	options  []option
	long     bool // getopt_long, not getopt: two dashes are a long option
	permutes bool // it looks for options behind the command, too: see permuted
	take     func(letter byte, value string) error
}

// parse has take called for each option, until it returns an error, and returns the words behind them.
func (g getopt) parse(args []string) (rest []string, err error) {
	for len(args) > 0 {
		word := args[0]
		switch {
		case word == "--":
			return args[1:], nil
		case !isOption(word):
			return g.permuted(args), nil
		}
		args = args[1:]
		if g.long && strings.HasPrefix(word, "--") {
			args, err = g.word(word[2:], args)
		} else {
			args, err = g.letters(word[1:], args)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// isOption says whether a word looks like options: a single dash does not.
func isOption(word string) bool { return len(word) > 1 && word[0] == '-' }

// permuted returns the command without the first "--" behind it, where getopt(3) permutes: it takes that away, as the end of
// its options ("tini PROGRAM -- ARGS", in tini's own help). A word before it that looks like options is the command's, and
// then so is all behind it.
func (g getopt) permuted(command []string) []string {
	if i := slices.IndexFunc(command, isOption); g.permutes && i >= 0 && command[i] == "--" {
		return slices.Concat(command[:i], command[i+1:])
	}
	return command
}

// word reads a long option, whose name may be shortened.
func (g getopt) word(word string, args []string) (rest []string, err error) {
	name, value, has := strings.Cut(word, "=")
	var could []option
	for _, o := range g.options {
		if o.long == name {
			could = []option{o}
			break
		}
		if o.long != "" && strings.HasPrefix(o.long, name) {
			could = append(could, o)
		}
	}
	switch {
	case len(could) == 0:
		return nil, fmt.Errorf("%s: unrecognized option '--%s'", g.name, word)
	case len(could) > 1:
		var names strings.Builder
		for _, o := range could {
			fmt.Fprintf(&names, " '--%s'", o.long)
		}
		return nil, fmt.Errorf("%s: option '--%s' is ambiguous; possibilities:%s", g.name, word, names.String())
	}
	o := could[0]
	switch {
	case o.value == "" && has:
		return nil, fmt.Errorf("%s: option '--%s' doesn't allow an argument", g.name, o.long)
	case o.value != "" && !has && len(args) == 0:
		return nil, fmt.Errorf("%s: option '--%s' requires an argument", g.name, o.long)
	case o.value != "" && !has:
		value, args = args[0], args[1:]
	}
	return args, g.take(o.letter, value)
}

// letters reads options that stand in one word; the last may take the rest of it, or the next word, as its value.
func (g getopt) letters(letters string, args []string) (rest []string, err error) {
	for ; letters != ""; letters = letters[1:] {
		o, ok := g.option(letters[0])
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: invalid option -- '%c'", g.name, letters[0])
		case o.value == "":
			if err := g.take(o.letter, ""); err != nil {
				return nil, err
			}
		case len(letters) > 1:
			return args, g.take(o.letter, letters[1:])
		case len(args) > 0:
			return args[1:], g.take(o.letter, args[0])
		default:
			return nil, fmt.Errorf("%s: option requires an argument -- '%c'", g.name, o.letter)
		}
	}
	return args, nil
}

func (g getopt) option(letter byte) (option, bool) {
	for _, o := range g.options {
		if o.letter == letter {
			return o, true
		}
	}
	return option{}, false
}
