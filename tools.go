package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"syscall"

	"holdfast/reaper"
)

// tini is tini 0.19, also where docker calls it docker-init. src/tini.c
func tini(name string) personality {
	verbosity := 1
	return personality{
		name: name, version: "tini version 0.19.0_holdfast", plainVersion: true, licence: 'l',
		getopt: getopt{name: name, permutes: true, options: []option{
			{'p', "", "SIGNAL", "the signal for this process when its parent dies, e.g. SIGKILL"},
			{'h', "", "", "print this"},
			{'v', "", "", "log more (on stderr); up to three times"},
			{'w', "", "", "tell of each orphan that was reaped"},
			{'g', "", "", "send signals to the process group of the command"},
			{'l', "", "", "print the licence"},
			{'e', "", "CODE", "exit with 0 where the command exits with CODE; repeatable"},
			{'s', "", "", "be a subreaper: accepted, it is automatic"},
		}},
		before: func(*flags, map[string]string) error { return nil },
		option: func(f *flags, letter byte, value string) error {
			switch letter {
			case 'p':
				s, ok := tiniSignal(value)
				if !ok {
					return said{fmt.Sprintf("%s: not a valid option for -p: %s (want a name such as SIGKILL)", name, value), 1, false}
				}
				f.pdeathsig = s
			case 'v':
				verbosity++
			case 'w':
				f.logReaped = true
			case 'g':
				f.group = true
			case 'e':
				code, rest := strtol(value)
				if rest != "" || code < 0 || code > 255 {
					return said{fmt.Sprintf("%s: not a valid option for -e: %s (want a code from 0 to 255)", name, value), 1, false}
				}
				f.remapExit[int(code)] = 0
			}
			return nil
		},
		after: func(f *flags, variables map[string]string) {
			// TINI_SUBREAPER asks for what is so anyway.
			if _, ok := variables["TINI_KILL_PROCESS_GROUP"]; ok {
				f.group = true
			}
			if text, ok := variables["TINI_VERBOSITY"]; ok {
				n, _ := strtol(text)
				verbosity = int(min(uint32(n), 3)) // atoi(3), kept as an unsigned: less than 0 is the most
			}
			f.logLevel = tiniLevel(verbosity)
			if verbosity == 1 && !f.logReaped {
				f.logLevel = slog.LevelError // tini warns of other things than holdfast does
			}
		},
		misused: personality.help, nothing: personality.help,
	}
}

// tiniSignal reads a signal by one of the names that tini knows.
func tiniSignal(name string) (syscall.Signal, bool) {
	s, err := reaper.ParseSignal(name)
	switch s {
	case syscall.SIGSTKFLT, syscall.SIGIO, syscall.SIGPWR:
		return 0, false
	}
	return s, err == nil && s < 32 && reaper.SignalName(s) == name
}

// tiniLevel is what holdfast logs at tini's level n: 0 errors, 1 warnings, 2 and more what it does.
func tiniLevel(n int) slog.Level {
	switch {
	case n <= 0:
		return slog.LevelError
	case n == 1:
		return slog.LevelWarn
	case n == 2:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// dumbInit is dumb-init 1.2.5. dumb-init.c
func dumbInit() personality {
	const name = "dumb-init"
	return personality{
		name: name, version: "dumb-init v1.2.5_holdfast", helpAside: true, versionAside: true,
		getopt: getopt{name: name, long: true, options: []option{
			{'c', "single-child", "", "send signals to the command alone, not to its session"},
			{'r', "rewrite", "s:r", "pass signal number s on as r; 0 drops it; repeatable"},
			{'v', "verbose", "", "log more, on stderr"},
			{'h', "help", "", "print this"},
			{'V', "version", "", "print the version"},
		}},
		before: func(f *flags, _ map[string]string) error {
			f.session, f.group, f.jobControl, f.atRoot = true, true, true, true
			return nil
		},
		option: func(f *flags, letter byte, value string) error {
			switch letter {
			case 'v':
				f.logLevel = slog.LevelDebug
			case 'c':
				f.session, f.group = false, false
			case 'r':
				return dumbInitRewrite(f, value)
			}
			return nil
		},
		after: func(f *flags, variables map[string]string) {
			if variables["DUMB_INIT_DEBUG"] == "1" {
				f.logLevel = slog.LevelDebug
			}
			if variables["DUMB_INIT_SETSID"] == "0" {
				f.session, f.group = false, false
			}
			if f.session { // else what these do to the command is the kernel's to decide
				f.stopFor()
			}
		},
		misused: func(personality) string { return "" },
		nothing: func(p personality) string {
			return fmt.Sprintf("%s\nTry %s --help for full usage.", p.usage(), p.name)
		},
	}
}

// strtol reads a decimal number as strtol(3) does: behind white space, with a sign or without, the nearest one where it is too
// large, and 0 where there is none; rest is what follows, then all of text.
func strtol(text string) (n int64, rest string) {
	number := strings.TrimLeft(text, " \t\n\v\f\r")
	signed := 0
	if strings.HasPrefix(number, "-") || strings.HasPrefix(number, "+") {
		signed = 1
	}
	rest = strings.TrimLeft(number[signed:], "0123456789")
	if len(rest) == len(number)-signed {
		return 0, text
	}
	n, _ = strconv.ParseInt(number[:len(number)-len(rest)], 10, 64)
	return n, rest
}

// dumbInitRewrite reads what dumb-init takes for -r: numbers below 32, as sscanf(3) reads them.
func dumbInitRewrite(f *flags, text string) error {
	const most = 31
	first, rest := strtol(text)
	second, junk := strtol(strings.TrimPrefix(rest, ":"))
	from, to := int32(first), int32(second) // %d has an int
	if !strings.HasPrefix(rest, ":") || junk == rest[1:] || from < 1 || from > most || to < 0 || to > most {
		return said{fmt.Sprintf("dumb-init: -r %s: want s:r, the number of a signal from 1 to %d and that of another, or 0", text, most), 1, false}
	}
	f.rewrite[syscall.Signal(from)] = syscall.Signal(to)
	return nil
}

// catatonit is catatonit 0.1.7. catatonit.c
func catatonit() personality {
	const name = "catatonit"
	return personality{
		// docker info looks for these words.
		name: name, version: "tini version 0.1.7_catatonit_holdfast", helpAside: true, licence: 'L',
		getopt: getopt{name: name, long: true, permutes: true, options: []option{
			{'g', "", "", "send signals to the process group of the command"},
			{'h', "", "", "print this"},
			{'L', "", "", "print the licence"},
			{'P', "", "", "run nothing, until SIGINT or SIGTERM"},
			{'V', "version", "", "print the version"},
		}},
		before: func(f *flags, variables map[string]string) error {
			if _, ok := variables["CATATONIT_DEBUG"]; ok {
				f.logLevel = slog.LevelDebug
			}
			if _, ok := variables["CATATONIT_LOG"]; ok {
				return said{"catatonit: CATATONIT_LOG is reserved for future use", 1, false}
			}
			f.rewrite[syscall.SIGTSTP] = 0
			return nil
		},
		option: func(f *flags, letter byte, _ string) error {
			switch letter {
			case 'g':
				f.group = true
			case 'P':
				f.pause = true
			}
			return nil
		},
		after:   func(*flags, map[string]string) {},
		misused: personality.usage,
		nothing: func(p personality) string { return p.name + ": missing program name\n" + p.usage() },
	}
}

// pause runs nothing: it holds a pod's namespaces and reaps, until SIGINT or SIGTERM.
func pause(r *reaper.Reaper, signals reaper.Signals) (code int) {
	for {
		select {
		case <-signals.Child:
			for range r.Reap() {
			}
		case s := <-signals.Forward:
			if s == syscall.SIGINT || s == syscall.SIGTERM {
				return 0
			}
			if s, ok := s.(reaper.Pending); ok {
				signals.Drop(s)
			}
		}
	}
}
