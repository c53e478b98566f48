package inits

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The bounds of zombies: in a burst all are there at once, and what counts is that all are gone in the end. A steady stream
// comes in hundreds, ten times a second: ten of those may wait where other tests have the processor.
const zombieBound = 1000

func reapCases() []testCase {
	const section = "Reaping"
	return []testCase{
		{section: section, name: "10,000 orphans at once", want: "all reaped, and the child's code is known", alone: true, run: burst},
		{section: section, name: "1,000 orphans a second, for 30 s", want: fmt.Sprintf("never more than %d zombies", zombieBound), alone: true, long: true, why: "measured on a machine that others kept busy", run: rate(30)},
		{section: section, name: "1,000 orphans a second, for 3 s", want: fmt.Sprintf("never more than %d zombies", zombieBound), alone: true, why: "measured on a machine that others kept busy", run: rate(3)},
		{section: section, name: "an orphan's orphan", want: "reaped", run: orphans(`(sh -c 'sh -c "sleep 0.05 & echo last \$!" & ' & )`)},
		{section: section, name: "an orphan in a session of its own", want: "reaped", run: orphans(`setsid sh -c 'sleep 0.05 & echo last $!' &`)},
		{section: section, name: "an orphan that is stopped, continued and killed", want: "reaped", run: stoppedOrphan},
		{section: section, name: "an orphan that another process traces", want: "reaped", run: traced},
		{section: section, name: "the main child, traced by a child of its own", want: "exit 7", run: func(t *testing.T, x tool) string {
			return start(t, x, run{argv: x.argv(nil, mustWitness(t), "tracee", "7")}).ends()
		}},
		{section: section, name: "a number given to an orphan twice", want: "exit 6", run: reused},
		{section: section, name: "a child that ends before its start has returned, 50 times", want: "exit 3", run: shortLived},
	}
}

func burst(t *testing.T, x tool) string {
	const n = 10_000
	s := start(t, x, run{argv: x.argv(nil, mustWitness(t), "burst", strconv.Itoa(n))})
	s.says("^up$")
	s.says("^done$")
	if !s.until(func() bool { return len(children(s.pid)) == 1 }) {
		return fmt.Sprintf("%d are left", len(children(s.pid))-1)
	}
	_ = syscall.Kill(s.child(), syscall.SIGKILL)
	if got := s.ends(); got != "exit 137" {
		return got
	}
	return "all reaped, and the child's code is known"
}

func rate(seconds int) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		s := start(t, x, run{argv: x.argv(nil, mustWitness(t), "rate", "1000", strconv.Itoa(seconds))})
		s.says("^up$")
		most := 0
		for end := time.Now().Add(3*time.Duration(seconds)*time.Second + x.patience()); !strings.Contains(s.output(), "done"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				return "hangs"
			}
			most = max(most, len(children(s.pid))-1)
		}
		t.Logf("%s: %d at most", x.name, most)
		if !s.until(func() bool { return len(children(s.pid)) == 1 }) {
			return fmt.Sprintf("%d are left", len(children(s.pid))-1)
		}
		if most > zombieBound {
			return fmt.Sprintf("%d zombies", most)
		}
		return fmt.Sprintf("never more than %d zombies", zombieBound)
	}
}

// orphans runs a script that says "last PID" of an orphan that ends by itself.
func orphans(script string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		s := start(t, x, run{argv: x.argv(nil, "sh", "-c", script+"\nexec sleep 1000")})
		return s.reaps(s.says("^last ([0-9]+)$"))
	}
}

// reaps waits until a number of the namespace is nobody's.
func (s *subject) reaps(pid string) string {
	path := fmt.Sprintf("/proc/%d/root/proc/%s", s.pid, pid)
	if s.until(func() bool { _, err := os.Stat(path); return err != nil }) {
		return "reaped"
	}
	return "left as it is"
}

func stoppedOrphan(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "sh", "-c", `(sleep 1000 & echo last $!); exec sleep 1000`)})
	orphan := s.says("^last ([0-9]+)$")
	s.inside("kill", "-STOP", orphan)
	s.inside("kill", "-CONT", orphan)
	s.inside("kill", "-STOP", orphan)
	s.inside("kill", "-KILL", orphan)
	return s.reaps(orphan)
}

func traced(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, mustWitness(t), "traced")})
	return s.reaps(s.says("^traced ([0-9]+)$"))
}

func reused(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, mustWitness(t), "reuse")})
	return s.ends()
}

func shortLived(t *testing.T, x tool) string {
	for range 50 {
		if got := start(t, x, run{argv: x.argv(nil, "sh", "-c", "exit 3")}).ends(); got != "exit 3" {
			return got
		}
	}
	return "exit 3"
}
