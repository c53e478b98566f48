package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"holdfast/handoff"
	"holdfast/handoff/activation"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
	"holdfast/reaper"
)

// The kinds of values that flags have. Each says in its error what would be right, and in words what completes it.

// worded is a value of which the possible words, or their beginnings, are known.
type worded interface{ possible() []string }

// list is the value of a flag that may be given several times; each time is added by itself.
type list struct {
	add   func(string) error
	words []string
}

func (l list) Set(text string) error { return l.add(text) }
func (l list) Type() string          { return "list" }
func (l list) String() string        { return "" }
func (l list) possible() []string    { return l.words }

func (f *flags) list(name, short, usage string, add func(string) error, words ...string) *pflag.Flag {
	return f.set.VarPF(list{add, words}, name, short, usage+"; repeatable")
}

// repeatable says whether the flag may be given several times.
func repeatable(flag *pflag.Flag) bool {
	_, ok := flag.Value.(list)
	return ok
}

// word is one of the words that a choice knows, and what it stands for.
type word[T comparable] struct {
	text  string
	value T
}

func as[T comparable](text string, value T) word[T] { return word[T]{text, value} }

// choice is the value of a flag that knows a few words.
type choice[T comparable] struct {
	to    *T
	words []word[T]
}

func choose[T comparable](f *flags, to *T, name, usage string, words ...word[T]) {
	f.set.Var(choice[T]{to, words}, name, usage)
}

func (c choice[T]) Set(text string) error {
	for _, w := range c.words {
		if w.text == text {
			*c.to = w.value
			return nil
		}
	}
	return wantOneOf(c.possible())
}

func (c choice[T]) Type() string { return "choice" }

func (c choice[T]) String() string {
	for _, w := range c.words {
		if c.to != nil && w.value == *c.to {
			return w.text
		}
	}
	return ""
}

func (c choice[T]) possible() []string {
	var all []string
	for _, w := range c.words {
		all = append(all, w.text)
	}
	return all
}

// signalValue is the value of a flag that takes a signal, or the word that stands for none.
type signalValue struct {
	to   *syscall.Signal
	none string
}

// signal defines a flag whose default is the signal that is there already; none, if not empty, is the word for 0.
func (f *flags) signal(to *syscall.Signal, none, name, short, usage string) {
	f.set.VarP(signalValue{to, none}, name, short, usage)
}

func (s signalValue) Set(text string) error {
	if text == s.none && text != "" {
		*s.to = 0
		return nil
	}
	return setSignal(s.to)(text)
}

func (s signalValue) Type() string { return "SIGNAL" }

func (s signalValue) String() string {
	if s.to == nil || *s.to == 0 {
		return s.none
	}
	return strings.TrimPrefix(reaper.SignalName(*s.to), "SIG")
}

func (s signalValue) possible() []string {
	common := []string{"HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "WINCH"}
	if s.none != "" {
		return append([]string{s.none}, common...)
	}
	return common
}

func (f *flags) duration(to *time.Duration, name string, value time.Duration, usage string) {
	durationVar(f.set, to, name, value, usage)
}

func durationVar(s *pflag.FlagSet, to *time.Duration, name string, value time.Duration, usage string) {
	*to = value
	s.Var((*duration)(to), name, usage)
}

// duration is the value of a flag whose error says what a duration looks like.
type duration time.Duration

func (d *duration) Set(text string) error {
	value, err := time.ParseDuration(text)
	if err != nil || value < 0 {
		return errors.New("want a duration such as 500ms, 10s or 2m")
	}
	*d = duration(value)
	return nil
}

func (d *duration) Type() string { return "DURATION" }

// String writes 1m, not 1m0s.
func (d *duration) String() string {
	text := time.Duration(*d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (f *flags) addListen(text string) error {
	spec, err := port.ParseSpec(text)
	if err != nil {
		return err
	}
	for _, other := range f.listen {
		if other.String() == spec.String() {
			return fmt.Errorf("%s is given twice; want each address once", spec)
		}
	}
	_, options, _ := strings.Cut(text, "?")
	f.listen, f.blocks = append(f.listen, spec), append(f.blocks, strings.Contains(options, "nonblock="))
	return nil
}

func (f *flags) addActivation(text string) error {
	c, err := activation.ParseConvention(text)
	f.activation = append(f.activation, c)
	return err
}

func (f *flags) addWatch(path string) error {
	f.watch = append(f.watch, path)
	return nil
}

func (f *flags) addWatchTrigger(path string) error {
	f.watchTrigger = append(f.watchTrigger, path)
	return nil
}

// watchAction is the value of --watch-action.
type watchAction struct{ to *handoff.WatchAction }

func (w watchAction) Set(text string) error {
	a := handoff.WatchAction{Text: text}
	kind, what, _ := strings.Cut(text, ":")
	var err error
	switch {
	case text == "handoff":
		a = handoff.WatchAction{}
	case kind == "signal":
		if err = setSignal(&a.Signal)(what); err != nil {
			return err
		}
		switch a.Signal {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTERM:
			return fmt.Errorf("%s: no server reloads at that; want one such as signal:HUP or signal:USR1", reaper.SignalName(a.Signal))
		}
	case kind == "exec":
		err = setCommand(&a.Command)(what)
	default:
		return wantOneOf([]string{"handoff", "signal:SIGNAL", "exec:COMMAND"})
	}
	*w.to = a
	return err
}

func (w watchAction) Type() string { return "choice" }

func (w watchAction) String() string {
	if w.to == nil || w.to.Text == "" {
		return "handoff"
	}
	return w.to.Text
}

func (w watchAction) possible() []string { return []string{"handoff", "signal:", "exec:"} }

func (f *flags) addReady(text string) error {
	m, err := ready.ParseMode(text)
	f.ready = append(f.ready, m)
	return err
}

func (f *flags) addExclude(text string) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return errors.New("want a port from 1 to 65535")
	}
	f.takeoverExclude = append(f.takeoverExclude, int(n))
	return nil
}

func (f *flags) addRewrite(text string) error {
	from, to, ok := strings.Cut(text, ":")
	if !ok {
		return errors.New("want FROM:TO, such as TERM:QUIT, or FROM:0 to drop it")
	}
	var a, b syscall.Signal
	if err := setSignal(&a)(from); err != nil {
		return err
	}
	switch a {
	case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD:
		return fmt.Errorf("%s never comes to be passed on; want another one before the colon, such as TERM or USR1", reaper.SignalName(a))
	}
	if to != "0" {
		if err := setSignal(&b)(to); err != nil {
			return err
		}
	}
	f.rewrite[a] = b
	return nil
}

func (f *flags) addRemap(text string) error {
	from, to, both := strings.Cut(text, ":")
	if !both {
		to = "0"
	}
	a, err := strconv.ParseUint(from, 10, 8)
	b, err2 := strconv.ParseUint(to, 10, 8)
	if err != nil || err2 != nil {
		return errors.New("want an exit code from 0 to 255, or CODE:TO, such as 143 or 143:0")
	}
	f.remapExit[int(a)] = int(b)
	return nil
}

func setSignal(to *syscall.Signal) func(string) error {
	return func(text string) (err error) {
		*to, err = reaper.ParseSignal(text)
		return err
	}
}

func setCommand(to *[]string) func(string) error {
	return func(text string) (err error) {
		*to, err = ready.ParseCommand(text)
		return err
	}
}

func wantOneOf(values []string) error {
	last := len(values) - 1
	return fmt.Errorf("want %s or %s", strings.Join(values[:last], ", "), values[last])
}
