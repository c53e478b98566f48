package harness

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/handoff/status"
)

// record is a testing.TB that keeps what a helper would have failed with.
type record struct {
	testing.TB
	failed string
}

func (r *record) Fatalf(format string, a ...any) { r.failed = fmt.Sprintf(format, a...); panic(r) }

// fails runs f, which must fail the test it is given with a text that holds want.
func fails(t *testing.T, h *Holdfast, want string, f func()) {
	t.Helper()
	r := &record{TB: t}
	h.t = r
	func() {
		defer func() {
			if v := recover(); v != nil && v != any(r) {
				panic(v)
			}
		}()
		f()
	}()
	h.t = t
	if !strings.Contains(r.failed, want) {
		t.Errorf("failed with %q, want %q", r.failed, want)
	}
}

// TestRun tries every way to run it: that it is found, answers, gets signals, is counted, and ends with its own code;
// and that nothing is left of it afterwards.
func TestRun(t *testing.T) {
	useFake(t)
	root := os.Geteuid() == 0
	if err := CanPID1(); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"plain":              {},
		"unprivileged":       {Unprivileged: true},
		"pid 1":              {PID1: true},
		"pid 1 unprivileged": {PID1: true, Unprivileged: true},
		"wrapped":            {PID1: true, Wrap: []string{"prlimit", "--nofile=100"}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Command = []string{"serve"}
			o.Flags = []string{"--settle", "1s"}
			var pids []int
			t.Run("use", func(t *testing.T) {
				h := Run(t, o)
				line := h.WaitLog(`^fake pid=`, time.Minute)
				if o.PID1 != strings.Contains(line, "pid=1 ") || !strings.Contains(line, `"--settle" "1s"`) {
					t.Error(line)
				}
				if o.Unprivileged {
					if root && !strings.Contains(line, "uid=65532 ") {
						t.Error(line)
					}
					for _, cap := range []string{"CapPrm", "CapEff", "CapBnd", "CapAmb"} {
						if cap != "CapBnd" || root || o.PID1 {
							h.WaitLog(cap+`:\s0+$`, time.Minute)
						}
					}
					h.WaitLog(`NoNewPrivs:\s1`, time.Minute)
				}
				h.WaitLog("serving", time.Minute)
				h.WaitLive(1, time.Minute)
				mark := h.Mark()
				h.Signal(syscall.SIGHUP)
				s := h.WaitHandoffs(1, time.Minute)
				if s.Live != 2 || Handoffs(s, status.Completed) != 1 || Handoffs(s, status.FailedHandoff) != 0 {
					t.Errorf("%+v", s)
				}
				c := Cutovers(s, time.Millisecond)
				if len(c) != 1 || c[0].Generation != 2 || c[0].After.Sub(c[0].Before) != 4*time.Millisecond {
					t.Errorf("%+v", c)
				}
				if q := h.Document().Queues; len(q) != 1 || q[0].Length != 3 {
					t.Errorf("%+v", q)
				}
				if code, body := h.Ready(); code != 503 || body != "[-]live failed: verbose" {
					t.Errorf("%d %s", code, body)
				}
				if h.Metrics() != "metric 1\n" {
					t.Error(h.Metrics())
				}

				before := h.Zombies()
				h.Signal(syscall.SIGUSR1)
				h.WaitLogAfter(mark, "zombie made", time.Minute)
				h.Eventually("a zombie", time.Minute, func() bool { return h.Zombies() == before+1 })
				below := h.Descendants()
				if len(below) != 2 || before != 0 {
					t.Errorf("%+v, %d zombies before", below, before)
				}
				for _, p := range below {
					if p.PPID != h.PID() || o.PID1 && (p.NSPID == p.PID || p.NSPID < 2) || o.Unprivileged && root && p.UID != 65532 {
						t.Errorf("%+v", p)
					}
				}
				if n := h.FDs(); n < 4 || n > 40 || h.Threads() < 2 {
					t.Errorf("%d descriptors, %d threads", n, h.Threads())
				}
				fails(t, h, "no line matches", func() { h.WaitLogAfter(h.Mark(), "serving", 20*time.Millisecond) })
				fails(t, h, "not within 20ms: generation 9", func() { h.WaitLive(9, 20*time.Millisecond) })
				fails(t, h, "has not ended", func() { h.Wait(20 * time.Millisecond) })
				for _, p := range h.Processes() {
					pids = append(pids, p.PID)
				}
			})
			for _, pid := range pids {
				if err := gone(pid); err != nil {
					t.Error(err)
				}
			}
			t.Run("ends", func(t *testing.T) {
				h := Run(t, o)
				h.WaitLog("serving", time.Minute)
				below := h.Descendants()
				h.Signal(syscall.SIGTERM)
				if code := h.Wait(time.Minute); code != 7 {
					t.Errorf("exit %d", code)
				}
				fails(t, h, "has ended without a line", func() { h.WaitLog("never", time.Minute) })
				for _, p := range below { // the stand-in leaves its child behind, unless its namespace takes it along
					if !o.PID1 {
						_ = syscall.Kill(p.PID, syscall.SIGKILL)
					}
					if err := gone(p.PID); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// gone waits until no process has that pid, or only a zombie that is another's to wait for.
func gone(pid int) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(poll) {
		p, ok := readProcess(pid)
		if !ok || p.State == "Z" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("left behind: %+v", p)
		}
	}
}

func TestExitCodes(t *testing.T) {
	useFake(t)
	for _, pid1 := range []bool{false, true} {
		if code := Run(t, Options{PID1: pid1, Command: []string{"exit", "43"}}).Wait(time.Minute); code != 43 {
			t.Errorf("pid 1 %t: exit %d", pid1, code)
		}
		h := Run(t, Options{PID1: pid1, Command: []string{"serve"}})
		h.WaitLog("serving", time.Minute)
		below := h.Descendants()
		h.Signal(syscall.SIGKILL)
		if code := h.Wait(time.Minute); code != 137 {
			t.Errorf("pid 1 %t: exit %d", pid1, code)
		}
		if !h.Exited() || h.TrySignal(syscall.SIGHUP) == nil {
			t.Error("not seen as ended")
		}
		for _, p := range below {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
	if code := Run(t, Options{Command: []string{"die"}}).Wait(time.Minute); code != 137 {
		t.Errorf("exit %d", code)
	}
}

func TestJournal(t *testing.T) {
	j := newJournal()
	s := j.stream("stderr")
	for _, part := range []string{"one\ntw", "o", "\n\nfo"} {
		_, _ = s.Write([]byte(part))
	}
	h := &Holdfast{t: t, log: j}
	if h.CountLog("^") != 3 || h.CountLog("^two$") != 1 || h.CountLog("fo") != 0 {
		t.Error(h.Log())
	}
	for i := range 2 * maxLines {
		_, _ = fmt.Fprintf(s, "line %d\n", i)
	}
	if len(j.lines) > maxLines || !strings.Contains(h.Log(), "lines dropped") || h.Mark() != 3+2*maxLines {
		t.Errorf("%d lines kept, mark %d", len(j.lines), h.Mark())
	}
	mark := h.Mark()
	go func() { _, _ = s.Write([]byte("late\n")) }()
	if got := h.WaitLogAfter(mark, "late", time.Minute); got != "late" {
		t.Error(got)
	}
}
