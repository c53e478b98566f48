package main

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestPersonalityOf(t *testing.T) {
	for argv0, want := range map[string]string{
		"tini": "tini", "/sbin/docker-init": "docker-init", "/usr/bin/tini-static": "tini-static", "./dumb-init": "dumb-init", "catatonit": "catatonit",
		"holdfast": "", "/usr/bin/tini2": "", "": "", "/": "",
	} {
		if got, ok := personalityOf(argv0); ok != (want != "") || got.name != want {
			t.Errorf("personalityOf(%q) = %q, %v, want %q", argv0, got.name, ok, want)
		}
	}
}

// parsedAs reads a command line as the tool of that name does.
func parsedAs(t *testing.T, line string, environ ...string) (*flags, error) {
	t.Helper()
	words := strings.Fields(line)
	p, ok := personalityOf(words[0])
	if !ok {
		t.Fatal(line)
	}
	return p.parse(words[1:], environ)
}

func commandIs(words ...string) func(f *flags) bool {
	return func(f *flags) bool { return slices.Equal(f.command, words) }
}

// TestPersonalities: what each command line comes to, beside what is the same for all.
func TestPersonalities(t *testing.T) {
	for _, c := range []struct {
		line    string
		environ []string
		ok      func(f *flags) bool
	}{
		{"tini a -g", nil, func(f *flags) bool { return !f.group && slices.Equal(f.command, []string{"a", "-g"}) }},
		{"tini -- -a", nil, func(f *flags) bool { return slices.Equal(f.command, []string{"-a"}) }},
		{"tini -g a b - -- -c -- d", nil, commandIs("a", "b", "-", "-c", "--", "d")},
		{"tini a -g -- b", nil, commandIs("a", "-g", "--", "b")},
		{"tini -- a -- b", nil, commandIs("a", "--", "b")},
		{"tini a --", nil, commandIs("a")},
		{"tini a -- b", []string{"POSIXLY_CORRECT="}, commandIs("a", "--", "b")},
		{"docker-init a -- b", nil, commandIs("a", "b")},
		{"catatonit a -- b", nil, commandIs("a", "b")},
		{"dumb-init a -- b", nil, commandIs("a", "--", "b")},
		{"tini -sgw a", nil, func(f *flags) bool { return f.group && f.logReaped }},
		{"tini a", []string{"TINI_KILL_PROCESS_GROUP=", "TINI_SUBREAPER="}, func(f *flags) bool { return f.group }},
		{"tini a", []string{"TINI_VERBOSITY=3"}, func(f *flags) bool { return f.logLevel == slog.LevelDebug }},
		{"tini -v a", []string{"TINI_VERBOSITY=0"}, func(f *flags) bool { return f.logLevel == slog.LevelError }},
		{"tini -w a", nil, func(f *flags) bool { return f.logReaped && f.logLevel == slog.LevelWarn }},
		{"tini a", nil, func(f *flags) bool { return f.logLevel == slog.LevelError }},
		{"tini -v a", nil, func(f *flags) bool { return f.logLevel == slog.LevelInfo }},
		{"tini -vvv a", nil, func(f *flags) bool { return f.logLevel == slog.LevelDebug }},
		{"tini -p SIGKILL a", nil, func(f *flags) bool { return f.pdeathsig == syscall.SIGKILL }},
		{"tini -pSIGTERM -e 143 -e7 a", nil, func(f *flags) bool {
			_, one := f.remapExit[143]
			_, two := f.remapExit[7]
			return f.pdeathsig == syscall.SIGTERM && one && two
		}},
		{"tini a", []string{"HOLDFAST_GROUP=true", "HOLDFAST_RELOAD_SIGNAL=USR1", "HOLDFAST_PROBE_ADDR=:1"}, func(f *flags) bool { return !f.group }},
		{"dumb-init a -c", nil, func(f *flags) bool {
			return f.session && f.group && f.jobControl && f.atRoot && len(f.command) == 2 && f.rewrite[syscall.SIGTSTP] == syscall.SIGSTOP
		}},
		{"dumb-init -r 20:20 -r 9:3 -r 15:1junk a", nil, func(f *flags) bool {
			return f.rewrite[syscall.SIGTSTP] == syscall.SIGTSTP && f.rewrite[syscall.SIGTTIN] == syscall.SIGSTOP && f.rewrite[syscall.SIGTERM] == syscall.SIGHUP
		}},
		{"dumb-init -c a", nil, func(f *flags) bool { return !f.session && !f.group && f.rewrite[syscall.SIGTSTP] == 0 }},
		{"dumb-init --sing --verb a", nil, func(f *flags) bool { return !f.session && !f.group && f.logLevel == slog.LevelDebug }},
		{"dumb-init --single-child -v a", nil, func(f *flags) bool { return !f.group && f.logLevel == slog.LevelDebug }},
		{"dumb-init a", []string{"DUMB_INIT_SETSID=0", "DUMB_INIT_DEBUG=1"}, func(f *flags) bool { return !f.session && !f.group && f.logLevel == slog.LevelDebug }},
		{"dumb-init -r 15:3 --rewrite 10:0 --rewrite=12:1 a", nil, func(f *flags) bool {
			to, drops := f.rewrite[syscall.SIGUSR1]
			return f.rewrite[syscall.SIGTERM] == syscall.SIGQUIT && drops && to == 0 && f.rewrite[syscall.SIGUSR2] == syscall.SIGHUP
		}},
		{"catatonit -g -- a", nil, func(f *flags) bool { return f.group }},
		{"catatonit a", nil, func(f *flags) bool { to, drops := f.rewrite[syscall.SIGTSTP]; return drops && to == 0 && !f.session }},
		{"catatonit -P", nil, func(f *flags) bool { return f.pause }},
	} {
		f, err := parsedAs(t, c.line, c.environ...)
		if err != nil || !c.ok(f) {
			t.Errorf("%s %q: %v, %+v", c.line, c.environ, err, f)
		}
		if err == nil && (f.probeAddr != "" || !f.plain || f.reloadSignal != 0 || f.stopSignal != syscall.SIGTERM) {
			t.Errorf("%s: there is something of holdfast's own: %+v", c.line, f)
		}
	}
}

// TestNumbers: each is taken, or not, as the tool itself takes it.
func TestNumbers(t *testing.T) {
	for text, want := range map[string]int{
		"1": 1, "": 0, " 1": 1, "\n1": 1, "+1": 1, "-0": 0, "01": 1, "255": 255,
		" ": -1, "1 ": -1, "+": -1, "0x1": -1, "-1": -1, "256": -1, "4294967297": -1, "99999999999999999999": -1, "1:2": -1,
	} {
		f, err := tini("tini").parse([]string{"-e", text, "a"}, nil)
		if _, ok := f.remapExit[want]; (err == nil) != (want >= 0) || ok != (want >= 0) {
			t.Errorf("tini -e %q: %v, %v, want %d", text, f.remapExit, err, want)
		}
	}
	for text, want := range map[string]slog.Level{
		" 3": slog.LevelDebug, "3x": slog.LevelDebug, "-1": slog.LevelDebug, "+2": slog.LevelInfo, "4294967299": slog.LevelDebug,
		"99999999999999999999": slog.LevelDebug, "": slog.LevelError, "x": slog.LevelError, "-4294967294": slog.LevelInfo,
	} {
		if f, err := tini("tini").parse([]string{"a"}, []string{"TINI_VERBOSITY=" + text}); err != nil || f.logLevel != want {
			t.Errorf("TINI_VERBOSITY=%q: %v, %v, want %v", text, f.logLevel, err, want)
		}
	}
	for text, ok := range map[string]bool{
		"15:2": true, "\n15:2": true, " 15: 2": true, "+15:+2": true, "015:2": true, "4294967311:2": true, "15:2 x": true,
		"15 :2": false, "0xf:2": false, "15:": false, ":2": false, "15": false, "": false, "15:x": false, "-1:2": false,
	} {
		f, err := dumbInit().parse([]string{"-r", text, "a"}, nil)
		if to := f.rewrite[syscall.SIGTERM]; (err == nil) != ok || (to == 2) != ok {
			t.Errorf("dumb-init -r %q: to %d, %v, want %v", text, to, err, ok)
		}
	}
}

// TestPersonalitySays: what ends at once, how, and where it is said. Each code and place is the tool's own.
func TestPersonalitySays(t *testing.T) {
	for line, want := range map[string]said{
		"tini":                       {"usage: tini", 1, false},
		"tini --":                    {"usage: tini", 1, false},
		"tini -x a":                  {"tini: invalid option -- 'x'", 1, false},
		"tini -V a":                  {"tini: invalid option -- 'V'", 1, false},
		"tini --no-such a":           {"tini: invalid option -- '-'", 1, false},
		"tini -e 256 a":              {"not a valid option for -e: 256", 1, false},
		"tini -e 1:2 a":              {"not a valid option for -e: 1:2", 1, false},
		"tini -p NOPE a":             {"not a valid option for -p: NOPE", 1, false},
		"tini -p KILL a":             {"not a valid option for -p: KILL", 1, false},
		"tini -p 9 a":                {"not a valid option for -p: 9", 1, false},
		"tini -p SIGRTMIN a":         {"not a valid option for -p: SIGRTMIN", 1, false},
		"tini -p SIGPWR a":           {"not a valid option for -p: SIGPWR", 1, false},
		"tini -p":                    {"tini: option requires an argument -- 'p'", 1, false},
		"tini -h":                    {"usage: tini", 0, true},
		"tini -gh a":                 {"-p SIGNAL", 0, true},
		"tini -l":                    {"Copyright", 0, true},
		"tini --version":             {"tini version 0.19.0", 0, true},
		"tini --version a":           {"tini: invalid option -- '-'", 1, false},
		"docker-init --version":      {"tini version 0.19.0", 0, true},
		"docker-init -x":             {"docker-init: invalid option", 1, false},
		"dumb-init":                  {"usage: dumb-init", 1, false},
		"dumb-init -V":               {"dumb-init v1.2.5", 0, false},
		"dumb-init --vers":           {"dumb-init v1.2.5", 0, false},
		"dumb-init --ver":            {"'--ver' is ambiguous; possibilities: '--verbose' '--version'", 1, false},
		"dumb-init --help":           {"usage: dumb-init", 0, false},
		"dumb-init --help=1":         {"option '--help' doesn't allow an argument", 1, false},
		"dumb-init --rewrite":        {"option '--rewrite' requires an argument", 1, false},
		"dumb-init --rewrite 1 a":    {"want s:r", 1, false},
		"dumb-init -r TERM:QUIT a":   {"want s:r", 1, false},
		"dumb-init -r 40:1 a":        {"want s:r", 1, false},
		"dumb-init -r 1:32 a":        {"want s:r", 1, false},
		"dumb-init -r 0:3 a":         {"want s:r", 1, false},
		"dumb-init --no-such-flag a": {"unrecognized option '--no-such-flag'", 1, false},
		"catatonit":                  {"missing program name", 1, false},
		"catatonit --version":        {"tini version 0.1.7_catatonit", 0, true},
		"catatonit --vers":           {"tini version 0.1.7_catatonit", 0, true},
		"catatonit -V":               {"tini version 0.1.7_catatonit", 0, true},
		"catatonit -h":               {"usage: catatonit", 0, false},
		"catatonit --help":           {"unrecognized option '--help'", 1, false},
		"catatonit -L":               {"Copyright", 0, true},
	} {
		_, err := parsedAs(t, line)
		var got said
		if !errors.As(err, &got) || got.code != want.code || got.stdout != want.stdout || !strings.Contains(got.text, want.text) {
			t.Errorf("%s: %+v (%v), want %+v", line, got, err, want)
		}
	}
	if _, err := parsedAs(t, "catatonit a", "CATATONIT_LOG=1"); err == nil {
		t.Error("catatonit keeps CATATONIT_LOG for itself")
	}
}
