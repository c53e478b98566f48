package reaper_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// TestTraceMe: a child that has asked to be traced and is stopped by a signal has not ended. Nor is it a job that was
// stopped; and the ends behind it are found, its own among them.
func TestTraceMe(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, signals := newReaper(t)
	start := func(role string) int {
		pid, err := r.Start(reaper.Command{Argv: []string{os.Args[0], "role", role}, Report: -1, Terminal: -1})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	reported := func(pid int) bool {
		var info unix.Siginfo
		return unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil) == nil && info.Signo != 0
	}
	ends := func(pid int, want string) {
		var got []string
		reapUntil(t, r, signals, func(e reaper.Exit) { got = append(got, fmt.Sprint(e.PID, " ", e)) }, func() bool { return len(got) > 0 })
		if want := fmt.Sprint(pid, " ", want); len(got) != 1 || got[0] != want {
			t.Errorf("ended: %q, want %q", got, want)
		}
	}
	for _, job := range []bool{true, false} {
		traced := start("traceme")
		eventually(t, "it is stopped", func() bool { return reported(traced) })
		if job && r.Stopped(traced) != 0 {
			t.Error("it counts as stopped by a user")
		}
		for e := range r.Reap() {
			t.Fatalf("the end of %d: %v", e.PID, e)
		}
		if reported(traced) {
			t.Error("the kernel tells of it once more")
		}
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", traced)); err != nil || strings.Contains(string(status), "State:\tZ") {
			t.Errorf("%s (%v)", status, err)
		}
		ends(start("exit"), "exit code 0")
		if err := r.Signal(traced, unix.SIGKILL, false); err != nil {
			t.Error(err)
		}
		ends(traced, "killed by SIGKILL")
	}
}
