package inits

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exits runs a command to its end.
func exits(command ...string) func(*testing.T, tool) string { return exitsIn(run{}, command...) }

func exitsIn(r run, command ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		r := r
		r.argv = x.argv(nil, command...)
		return start(t, x, r).ends()
	}
}

// bare runs a tool with a command line of its own.
func bare(argv ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		words := []string{x.bin}
		if x.name == "holdfast" {
			words = append(words, "--probe-addr=")
		}
		return start(t, x, run{argv: append(words, argv...)}).ends()
	}
}

func exitCases() []testCase {
	const section = "Exit codes"
	const whyExec = "126 and 127, as every shell and docker have them"
	return []testCase{
		{section: section, name: "0", want: "exit 0", run: exits("true")},
		{section: section, name: "7", want: "exit 7", run: exits("sh", "-c", "exit 7")},
		{section: section, name: "255", want: "exit 255", run: exits("sh", "-c", "exit 255")},
		{section: section, name: "killed by TERM", want: "exit 143", run: exits("sh", "-c", "kill -TERM $$")},
		{section: section, name: "killed by KILL", want: "exit 137", run: exits("sh", "-c", "kill -KILL $$")},
		{section: section, name: "killed by SEGV", want: "exit 139", run: exits("sh", "-c", "ulimit -c 0; kill -SEGV $$")},
		{section: section, name: "killed by RTMIN+3", want: "exit 165", run: exits("sh", "-c", "kill -37 $$")},
		{section: section, name: "its main thread ends first", want: "exit 9", run: func(t *testing.T, x tool) string {
			return exits(mustWitness(t), "threads", "9")(t, x)
		}},
		{section: section, name: "stopped and continued meanwhile", want: "exit 7", run: stoppedAndContinued},
		{section: section, name: "not found", want: "exit 127", why: whyExec, run: exits("/not/there")},
		{section: section, name: "not found in PATH", want: "exit 127", why: whyExec, run: exits("not-there")},
		{section: section, name: "not executable", want: "exit 126", why: whyExec, run: exits("/etc/passwd")},
		{section: section, name: "a directory", want: "exit 126", why: whyExec, run: exits("/etc")},
		{section: section, name: "its interpreter is missing", want: "exit 127", why: whyExec, run: script("#!/not/there\n")},
		{section: section, name: "a script without a first line", want: "exit 4", why: "", run: script("exit 4\n")},
		{section: section, name: "remapped: -e 143", want: "exit 0", why: "no such option", run: remapped("143")},
		{section: section, name: "remapped: --remap-exit 143:0", want: "exit 0", why: "no such option", run: remappedTo("143:0")},
		{section: section, name: "remapped: --remap-exit 143:9, and 7:0", want: "exit 9", why: "no such option", run: remappedTo("143:9", "7:0")},
		{section: section, name: "remapped: killed by TERM, -e 143", want: "exit 0", why: "no such option", run: func(t *testing.T, x tool) string {
			if x.name == "dumb-init" || x.name == "catatonit" {
				return "no such option"
			}
			return start(t, x, run{argv: x.argv([]string{"-e", "143"}, "sh", "-c", "kill -TERM $$")}).ends()
		}},
		{section: section, name: "remapped: -e 7 of 143", want: "exit 143", why: "no such option", run: remapped("7")},
		{section: section, name: "no command", want: "exit 125", why: "holdfast's own errors are 125, as docker's, so that they are no child's", run: bare()},
		{section: section, name: "an unknown option", want: "exit 125", why: "holdfast's own errors are 125, as docker's, so that they are no child's", run: bare("--no-such-option", "true")},
		{section: section, name: "options of the command, without --", want: "exit 7",
			why: "getopt(3) permutes, and takes the command's options for the init's own", run: bare("sh", "-c", "exit 7")},
	}
}

func script(text string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		path := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return exits(path)(t, x)
	}
}

func remapped(code string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		if x.name == "dumb-init" || x.name == "catatonit" {
			return "no such option"
		}
		return start(t, x, run{argv: x.argv([]string{"-e", code}, "sh", "-c", "exit 143")}).ends()
	}
}

// remappedTo is holdfast's alone.
func remappedTo(codes ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		if x.name != "holdfast" {
			return "no such option"
		}
		var flags []string
		for _, c := range codes {
			flags = append(flags, "--remap-exit", c)
		}
		return start(t, x, run{argv: x.argv(flags, "sh", "-c", "exit 143")}).ends()
	}
}

func stoppedAndContinued(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", "echo up; kill -STOP $$; exit 7")})
	s.says("^up$")
	child := s.child()
	if !s.until(func() bool { return strings.HasPrefix(field(child, "State"), "T") }) {
		return s.ends()
	}
	_ = syscall.Kill(child, syscall.SIGCONT)
	return s.ends()
}

func startCases() []testCase {
	const section = "The start, under difficulties"
	const whyStdin = "tcsetpgrp(3) fails with EBADF there, and tini takes that for fatal"
	return []testCase{
		{section: section, name: "SIGCHLD ignored by who started it", want: "exit 7", why: "children that end leave no zombie then: tini and catatonit wait for ever",
			hangs: []string{"tini", "catatonit"},
			run:   exitsIn(run{launch: []string{"-ignore", "17"}}, "sh", "-c", "exit 7")},
		{section: section, name: "stdin closed", want: "exit 7", why: whyStdin, run: exitsIn(run{launch: []string{"-close", "0"}}, "sh", "-c", "exit 7")},
		{section: section, name: "stdin, stdout and stderr closed", want: "exit 7", why: whyStdin, run: exitsIn(run{launch: []string{"-close", "0,1,2"}}, "sh", "-c", "exit 7")},
		{section: section, name: "no /proc", want: "exit 7", run: exitsIn(run{launch: []string{"-noproc"}}, "sh", "-c", "exit 7")},
		{section: section, name: "no /proc: an orphan, and TERM", want: "reaped, exit 143", run: withoutProc},
		{section: section, name: "an empty /dev: no /dev/tty, no /dev/null", want: "exit 7", run: exitsIn(run{launch: []string{"-nodev"}}, "sh", "-c", "exit 7")},
		{section: section, name: "an empty /dev, and stdin, stdout and stderr closed", want: "exit 7", why: whyStdin, run: exitsIn(run{launch: []string{"-nodev", "-close", "0,1,2"}}, "sh", "-c", "exit 7")},
		{section: section, name: "32 open files at most", want: "exit 7", run: exitsIn(run{launch: []string{"-files", "32"}}, "sh", "-c", "exit 7")},
		{section: section, name: "an environment of 1.9 MB", want: "exit 7", run: exitsIn(run{env: largeEnvironment()}, "sh", "-c", `[ ${#V19} = 100000 ] && exit 7`)},
		{section: section, name: "as large an environment as it can be started with itself", want: "exit 7", run: greatestEnvironment},
		{section: section, name: "one variable of the greatest size", want: "exit 7", run: exitsIn(run{env: []string{"PATH=/usr/bin:/bin", "V=" + strings.Repeat("x", 32*4096-3)}}, "sh", "-c", `[ ${#V} = 131069 ] && exit 7`)},
		{section: section, name: "TERM blocked by who started it", want: "exit 143", why: "tini and catatonit hand the mask on to the child, which then never sees its TERM", hangs: []string{"tini", "catatonit"}, run: blockedTerm},
		{section: section, name: "TERM 0 to 5 ms after its exec, 72 times", want: "ends by it, or never sees it", alone: true, run: earlyTerm},
	}
}

// largeEnvironment comes close to what the kernel takes: a quarter of the stack's limit of 8 MiB, less what is added.
func largeEnvironment() []string {
	env := []string{"PATH=/usr/bin:/bin"}
	for i := range 19 {
		env = append(env, fmt.Sprintf("V%d=%s", i+1, strings.Repeat("x", 100_000)))
	}
	return env
}

// withoutProc has nothing but system calls to go by.
func withoutProc(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", `(sleep 0.01 &) ; trap 'exit 143' TERM; echo up; while :; do read x; done`), launch: []string{"-noproc"}, stdin: true})
	s.says("^up$")
	if !s.until(func() bool { return len(children(s.pid)) == 1 }) {
		return "an orphan is left as it is"
	}
	s.signal(syscall.SIGTERM)
	return "reaped, " + s.ends()
}

// greatestEnvironment finds the largest environment with which the init itself can be started: its child, whose command
// line is shorter, must fit, too.
func greatestEnvironment(t *testing.T, x tool) string {
	with := func(size int) string {
		launch := []string{"-env", strconv.Itoa(size)}
		return exitsIn(run{env: []string{"PATH=/usr/bin:/bin"}, launch: launch}, "sh", "-c", "exit 7")(t, x)
	}
	const tooLarge = "exit 99"        // the launcher's
	low, high := 2_094_000, 2_100_000 // where the limit of the stack is 8 MiB
	if got := with(high); got != tooLarge {
		t.Skip("another limit of the stack: ", got)
	}
	for high-low > 1 {
		if middle := (low + high) / 2; with(middle) == tooLarge {
			high = middle
		} else {
			low = middle
		}
	}
	return with(low)
}

// blockedTerm: the mask that an init inherits is not its own.
func blockedTerm(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", "trap 'exit 143' TERM; echo up; while :; do sleep 0.01; done"), launch: []string{"-block", "1,2,3,10,12,15,17"}})
	s.says("^up$")
	s.signal(syscall.SIGTERM)
	return s.ends()
}

// earlyTerm sends SIGTERM at every moment of the start, from the exec on. What comes before anything can catch it the kernel
// drops for a PID 1; then an init may be ended by it or pass it on, but must not end in another way or get stuck.
func earlyTerm(t *testing.T, x tool) string {
	codes := map[string]int{}
	step := 25 * time.Microsecond // the first millisecond is where a runtime begins
	for delay := time.Duration(0); delay < 5*time.Millisecond; delay += step {
		if delay == time.Millisecond {
			step = 125 * time.Microsecond
		}
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, x, run{argv: x.argv(nil, "sh", "-c", "echo up; exec sleep 1000"), launch: []string{"-moment", "3"}, files: []*os.File{write}})
		write.Close()
		_, _ = read.Read(make([]byte, 1)) // the end, at its exec
		read.Close()
		for end := time.Now().Add(delay); time.Now().Before(end); {
		}
		s.signal(syscall.SIGTERM)
		// It ends, or the child runs as if nothing had been: then the next one must end it.
		s.until(func() bool { return s.gone() || strings.Contains(s.output(), "up") })
		s.until(func() bool { s.signal(syscall.SIGTERM); return s.gone() })
		codes[s.ends()]++
	}
	t.Logf("%s: %v", x.name, codes)
	delete(codes, "exit 143")
	if len(codes) > 0 {
		return fmt.Sprint(codes)
	}
	return "ends by it, or never sees it"
}

func (s *subject) gone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
