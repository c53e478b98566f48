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

func endCases() []testCase {
	const section = "The end, and not as PID 1"
	return []testCase{
		{section: section, name: "not PID 1: its child's orphan", want: "is adopted", why: "dumb-init cannot; tini must be asked, with -s, and warns", run: adopts},
		{section: section, name: "not PID 1: what it says", want: "nothing", why: "tini warns that it is not PID 1", run: silent},
		{section: section, name: "not PID 1: another's process, after the end", want: "lives", run: bystander},
		{section: section, name: "not PID 1: a process left over, after the end", want: "is left alone",
			why: "dumb-init sends SIGTERM to the child's session; with --grace-period, holdfast does so to all that is left", run: leftOver()},
		{section: section, name: "not PID 1: the same with a grace period", want: "is ended, with SIGKILL if it must be", why: "no such option", run: leftOver("--grace-period", "300ms")},
		{section: section, name: "the child ends by itself, with a grace period: a process left over", want: "is told, and waited for", why: "no such option", run: graceAtExit("exit 3", "exit 4")},
		{section: section, name: "the same, and it ignores SIGTERM", want: "is ended with SIGKILL", why: "no such option", run: graceAtExit("", "exit 4")},
		{section: section, name: "its parent dies, with -p KILL", want: "dies, too", why: "no such option", run: parentDies},
		{section: section, name: "TERM to a child that ignores it, with a grace period", want: "exit 137", why: "no such option", run: ignoresTerm},
		{section: section, name: "TERM again", want: "forwarded again", run: termAgain},
	}
}

// belowPID1 starts an init as a child of another PID 1, and returns its number in the namespace.
func belowPID1(t *testing.T, x tool, flags []string, command ...string) (s *subject, inside string) {
	t.Helper()
	// tini's warning that it is not PID 1 comes in pieces, between which others write: only one case is about that.
	return belowWith(t, x, append(os.Environ(), "TINI_VERBOSITY=0"), flags, command...)
}

func belowWith(t *testing.T, x tool, env, flags []string, command ...string) (s *subject, inside string) {
	t.Helper()
	s = start(t, x, run{argv: x.argv(flags, command...), launch: []string{"-below"}, env: env})
	return s, s.says("^init ([0-9]+)$")
}

// in is a number's status field, in the namespace.
func (s *subject) in(pid, name string) string {
	return fieldOf(fmt.Sprintf("/proc/%d/root/proc/%s/status", s.pid, pid), name)
}

// dead says whether a number of the namespace is nobody's, or a zombie's.
func (s *subject) dead(pid string) bool {
	state := s.in(pid, "State")
	return state == "" || strings.HasPrefix(state, "Z")
}

func adopts(t *testing.T, x tool) string {
	s, inside := belowPID1(t, x, nil, "sh", "-c", `(sleep 1000 & echo orphan $!); exec sleep 1000`)
	orphan := s.says("^orphan ([0-9]+)$")
	var parent string
	s.until(func() bool { parent = s.in(orphan, "PPid"); return parent == inside || parent == "1" })
	if parent == inside {
		return "is adopted"
	}
	return "is not adopted"
}

func silent(t *testing.T, x tool) string {
	s, _ := belowWith(t, x, nil, quiet(x), "sh", "-c", "exit 0")
	s.says("^ended 0$")
	for _, line := range strings.Split(s.output(), "\n") {
		if !strings.HasPrefix(line, "init ") && !strings.HasPrefix(line, "ended ") {
			return "warns"
		}
	}
	return "nothing"
}

// quiet leaves of holdfast's log what is a warning or worse.
func quiet(x tool) []string {
	if x.name == "holdfast" {
		return []string{"--log-level", "warn"}
	}
	return nil
}

func bystander(t *testing.T, x tool) string {
	s, inside := belowPID1(t, x, nil, "sh", "-c", `echo up; exec sleep 1000`)
	s.says("^up$")
	other := s.inside("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!")
	s.inside("kill", "-TERM", inside)
	s.says("^ended ")
	if s.dead(other) {
		return "is killed"
	}
	return "lives"
}

// leftOver ignores SIGTERM, in a session of its own.
func leftOver(flags ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		if len(flags) > 0 && x.name != "holdfast" {
			return "no such option"
		}
		script := `trap 'echo told' TERM; echo left $$; while :; do sleep 0.01; done`
		s, inside := belowPID1(t, x, flags, "sh", "-c", `sh -c "$1" & exec sleep 1000`, "sh", script)
		left := s.says("^left ([0-9]+)$")
		s.inside("kill", "-TERM", inside)
		s.says("^ended ")
		if len(flags) > 0 {
			s.says("^told$")
			if s.until(func() bool { return s.dead(left) }) {
				return "is ended, with SIGKILL if it must be"
			}
			return "lives"
		}
		if s.untilWithin(300*time.Millisecond, func() bool { return strings.Contains(s.output(), "told") }) {
			return "gets SIGTERM"
		}
		return "is left alone"
	}
}

// graceAtExit has the child end on its own and leave somebody behind, who may end with SIGTERM.
func graceAtExit(atTerm, atEnd string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		if x.name != "holdfast" {
			return "no such option"
		}
		grace := "10m" // whoever waits in vain is found out
		if atTerm == "" {
			grace = "300ms"
		}
		left := `trap 'echo told; ` + atTerm + `' TERM; echo up; while :; do sleep 0.01; done`
		s := start(t, x, run{argv: x.argv([]string{"--grace-period", grace}, "sh", "-c", `setsid sh -c "$1" & read go; `+atEnd, "sh", left), stdin: true})
		s.says("^up$")
		s.stdin.Close()
		if got := s.ends(); got != "exit 4" {
			return got
		}
		switch {
		case !strings.Contains(s.output(), "told"):
			return "is not told"
		case atTerm == "":
			return "is ended with SIGKILL"
		}
		return "is told, and waited for"
	}
}

// untilWithin is until for what had better not come.
func (s *subject) untilWithin(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// parentDies has the init's parent, which is not PID 1, end before it.
func parentDies(t *testing.T, x tool) string {
	var flags []string
	switch x.name {
	case "holdfast":
		flags = []string{"--pdeathsig", "KILL"}
	case "tini":
		flags = []string{"-p", "SIGKILL"}
	default:
		return "no such option"
	}
	file := filepath.Join(t.TempDir(), "init")
	argv := append([]string{"sh", "-c", `"$@" & echo $! >` + file + `; wait`, "sh"}, x.argv(flags, "sh", "-c", "echo up; exec sleep 1000")...)
	s := start(t, x, run{argv: argv, launch: []string{"-below"}, env: append(os.Environ(), "TINI_VERBOSITY=0")})
	shell := s.says("^init ([0-9]+)$")
	s.says("^up$")
	var inside string
	s.until(func() bool { // the shell may write it after its child has spoken
		b, _ := os.ReadFile(file)
		inside = strings.TrimSpace(string(b))
		return inside != ""
	})
	if _, err := strconv.Atoi(inside); err != nil {
		t.Fatal(err)
	}
	s.inside("kill", "-KILL", shell)
	if s.until(func() bool { return s.dead(inside) }) {
		return "dies, too"
	}
	return "lives"
}

func ignoresTerm(t *testing.T, x tool) string {
	if x.name != "holdfast" {
		return "no such option"
	}
	s := start(t, x, run{argv: x.argv([]string{"--grace-period", "200ms"}, "sh", "-c", `trap "" TERM; echo up; while :; do sleep 0.01; done`)})
	s.says("^up$")
	s.signal(syscall.SIGTERM)
	return s.ends()
}

func termAgain(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", `trap 'n=$((n+1)); echo told $n' TERM; echo up; while :; do sleep 0.01; done`)})
	s.says("^up$")
	for i := 1; i <= 3; i++ {
		s.signal(syscall.SIGTERM)
		s.says(fmt.Sprintf("^told %d$", i))
	}
	return "forwarded again"
}
