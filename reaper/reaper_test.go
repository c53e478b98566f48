package reaper_test

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// newReaper is for the process that alone has started.
func newReaper(t *testing.T) (*reaper.Reaper, reaper.Signals) {
	t.Helper()
	signals := reaper.Signals{Forward: make(chan os.Signal, 256), Child: make(chan os.Signal, 1)}
	signal.Notify(signals.Forward)
	signal.Notify(signals.Child, syscall.SIGCHLD)
	r, err := reaper.New()
	if err != nil {
		t.Fatal(err)
	}
	return r, signals
}

// reapUntil reaps after each SIGCHLD until enough says so.
func reapUntil(t *testing.T, r *reaper.Reaper, signals reaper.Signals, take func(reaper.Exit), enough func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !enough() {
		select {
		case <-signals.Child:
			for e := range r.Reap() {
				take(e)
			}
		case <-deadline:
			t.Fatal("waited in vain for children to exit")
		}
	}
}

// noChild fails if there is a child, a zombie included.
func noChild(t *testing.T) {
	t.Helper()
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("there is a child left: wait4 = %d, %v", pid, err)
	}
}

func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		read.Close()
		write.Close()
	})
	return read, write
}

// TestReapMany: 200 children that exit at once, some by a signal: the kernel merges their SIGCHLDs, and none is lost or
// told twice.
func TestReapMany(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, signals := newReaper(t)
	gate, open := pipe(t)
	want := map[int]int{}
	for i := range 200 {
		script, code := fmt.Sprintf("read x; exit %d", i), i
		if i%10 == 9 {
			script, code = "read x; kill -USR1 $$", 128+int(syscall.SIGUSR1)
		}
		pid, err := r.Start(reaper.Command{
			Argv: []string{"sh", "-c", script}, Files: []int{int(gate.Fd()), -1, -1}, Report: -1, Terminal: -1,
		})
		if err != nil {
			t.Fatal(err)
		}
		want[pid] = code
	}
	open.Close()
	told := 0
	reapUntil(t, r, signals, func(e reaper.Exit) {
		code, ok := want[e.PID]
		if !ok || e.Code() != code {
			t.Errorf("exit of %d: %v, code %d, want %d (known: %v)", e.PID, e, e.Code(), code, ok)
		}
		delete(want, e.PID)
		told++
	}, func() bool { return len(want) == 0 })
	if told != 200 || r.Reaped() != 200 {
		t.Errorf("told %d, reaped %d, want 200", told, r.Reaped())
	}
	noChild(t)
}

// TestReapOneByOne: while an exit is dealt with, the child is a zombie still, as is the next one: their numbers are nobody
// else's. When the next has its turn, the one before is gone.
func TestReapOneByOne(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, signals := newReaper(t)
	pids := map[int]bool{}
	for range 2 {
		pid, err := r.Start(reaper.Command{Argv: []string{"true"}, Report: -1, Terminal: -1})
		if err != nil {
			t.Fatal(err)
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		pids[pid] = true
	}
	before := 0
	reapUntil(t, r, signals, func(e reaper.Exit) {
		delete(pids, e.PID)
		if err := r.Signal(e.PID, syscall.SIGTERM, true); err != nil {
			t.Errorf("a signal to the group of %d, which is dealt with: %v", e.PID, err)
		}
		if before != 0 {
			if err := r.Signal(before, 0, false); !errors.Is(err, unix.ESRCH) {
				t.Errorf("a signal to the reaped %d: %v, want ESRCH", before, err)
			}
		}
		before = e.PID
		for other := range pids {
			if err := r.Signal(other, syscall.SIGTERM, false); err != nil {
				t.Errorf("a signal to one whose turn has not come: %v", err)
			}
		}
	}, func() bool { return len(pids) == 0 })
}

// sleeper starts a program that holds still, to be looked at from outside.
func sleeper(t *testing.T, r *reaper.Reaper, files []int) int {
	t.Helper()
	pid, err := started(t, r, reaper.Command{Argv: []string{"sleep", "100"}, Files: files, Terminal: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Signal(pid, syscall.SIGKILL, false) })
	return pid
}

// TestFiles: the child has what it was given, under the numbers given, and nothing else.
func TestFiles(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, _ := newReaper(t)
	a, b := pipe(t)
	c, d := pipe(t)
	_ = d // stays here
	for name, files := range map[string][]int{
		"in order":       {int(a.Fd()), int(b.Fd()), int(c.Fd())},
		"with holes":     {-1, int(b.Fd()), -1, -1, int(a.Fd()), -1, int(c.Fd())},
		"one more often": {int(a.Fd()), int(a.Fd()), -1, int(a.Fd())},
		"none":           {},
		"crossed":        {2, 1, 0, int(b.Fd()), int(a.Fd()), 0, int(c.Fd()), 1},
		"onto others":    {-1, -1, -1, int(c.Fd()), int(b.Fd()), int(a.Fd()), int(c.Fd()), int(b.Fd()), int(a.Fd())},
	} {
		t.Run(name, func(t *testing.T) {
			want := map[int]string{}
			for i, fd := range files {
				if fd >= 0 {
					want[i], _ = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
				}
			}
			pid := sleeper(t, r, files)
			var got map[int]string
			// Not at once: the dynamic loader opens and closes some.
			eventually(t, fmt.Sprintf("the descriptors %v", want), func() bool {
				got = descriptors(t, pid)
				return maps.Equal(got, want)
			}, func() string { return fmt.Sprintf("it has %v", got) })
		})
	}
}

// descriptors lists what a process has open.
func descriptors(t *testing.T, pid int) map[int]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := map[int]string{}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		open[fd], _ = os.Readlink(dir + "/" + e.Name())
	}
	return open
}

// TestSignalState: whatever this process catches, a child starts with default dispositions and an empty mask, in a
// process group of its own, with the environment that it was given.
func TestSignalState(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, _ := newReaper(t) // catches everything
	pid := sleeper(t, r, []int{0, 1, 2})
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	seen := 0
	for lines := bufio.NewScanner(status); lines.Scan(); {
		switch name, value, _ := strings.Cut(lines.Text(), ":"); name {
		case "SigBlk", "SigIgn", "SigCgt", "ShdPnd", "SigPnd":
			seen++
			if mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil || mask != 0 {
				t.Errorf("%s is %s in the child, want none", name, strings.TrimSpace(value))
			}
		}
	}
	if seen != 5 {
		t.Errorf("saw %d lines of signals", seen)
	}
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("its process group is %d, want its own, %d (%v)", group, pid, err)
	}
}

func TestSignalGroup(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, signals := newReaper(t)
	gone, write := pipe(t)
	pid, err := r.Start(reaper.Command{
		Argv: []string{"sh", "-c", "sleep 100 & echo; wait"}, Files: []int{-1, int(write.Fd()), -1}, Report: -1, Terminal: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	b := make([]byte, 1)
	if _, err := gone.Read(b); err != nil { // both run
		t.Fatal(err)
	}
	if err := r.Signal(pid, syscall.SIGTERM, true); err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Read(b); err == nil { // the end: nobody has the pipe any more
		t.Error("read more than the end")
	}
	exits := map[int]string{}
	reapUntil(t, r, signals, func(e reaper.Exit) { exits[e.PID] = e.String() }, func() bool { return len(exits) == 2 })
	if exits[pid] != "killed by SIGTERM" {
		t.Errorf("exits: %v", exits)
	}
	if err := r.Signal(pid, syscall.SIGTERM, true); !errors.Is(err, unix.ESRCH) || !strings.Contains(err.Error(), "SIGTERM") {
		t.Errorf("a signal to nobody: %v", err)
	}
}

// TestSignalGroupAdopted: an orphan that leads no group is signalled with the group it is in, and alone if that is this
// process' own.
func TestSignalGroupAdopted(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, signals := newReaper(t)
	out, write := pipe(t)
	leader, err := r.Start(reaper.Command{
		Argv: []string{"sh", "-c", "sleep 1000 & echo $!; sleep 1000 & echo $!; exit 0"}, Files: []int{-1, int(write.Fd()), -1}, Report: -1, Terminal: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	var one, other int
	if _, err := fmt.Fscan(out, &one, &other); err != nil {
		t.Fatal(err)
	}
	ends := map[int]int{}
	take := func(e reaper.Exit) { ends[e.PID] = e.Code() }
	reapUntil(t, r, signals, take, func() bool { _, ok := ends[leader]; return ok })
	if err := r.Signal(one, syscall.SIGUSR1, true); err != nil {
		t.Fatal(err)
	}
	reapUntil(t, r, signals, take, func() bool { return len(ends) == 3 })
	if ends[one] != 128+int(syscall.SIGUSR1) || ends[other] != 128+int(syscall.SIGUSR1) {
		t.Errorf("the two ended with %v", ends)
	}
	if err := r.Signal(one, syscall.SIGUSR1, true); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("to one that has been reaped: %v", err)
	}

	own, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Signal(own, syscall.SIGUSR2, true); err != nil {
		t.Fatal(err)
	}
	reapUntil(t, r, signals, take, func() bool { return len(ends) == 4 })
	for len(signals.Forward) > 0 {
		if s := <-signals.Forward; s == syscall.SIGUSR2 {
			t.Error("it was sent to this process' own group")
		}
	}
}

func TestExit(t *testing.T) {
	for _, c := range []struct {
		status syscall.WaitStatus
		code   int
		words  string
	}{
		{0, 0, "exit code 0"},
		{1 << 8, 1, "exit code 1"},
		{255 << 8, 255, "exit code 255"},
		{143 << 8, 143, "exit code 143"},
		{15, 143, "killed by SIGTERM"},
		{9, 137, "killed by SIGKILL"},
		{11 | 0x80, 139, "killed by SIGSEGV, core dumped"},
		{37, 165, "killed by SIGRTMIN+3"},
		{64, 192, "killed by SIGRTMIN+30"},
	} {
		e := reaper.Exit{PID: 7, Status: c.status}
		if e.Code() != c.code || e.String() != c.words {
			t.Errorf("status %#x: code %d, %q, want %d, %q", uint32(c.status), e.Code(), e, c.code, c.words)
		}
	}
}

// TestEnds: each way to end is what wait4(2) would say of it.
func TestEnds(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, signals := newReaper(t)
	for script, want := range map[string]string{
		"exit 0": "exit code 0", "exit 255": "exit code 255", "kill -TERM $$": "killed by SIGTERM",
		"ulimit -c 0; kill -SEGV $$": "killed by SIGSEGV", "kill -37 $$": "killed by SIGRTMIN+3",
	} {
		pid, err := r.Start(reaper.Command{Argv: []string{"sh", "-c", script}, Report: -1, Terminal: -1})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		reapUntil(t, r, signals, func(e reaper.Exit) { got = e.String() }, func() bool { return got != "" })
		if got != want {
			t.Errorf("%s (%d): %q, want %q", script, pid, got, want)
		}
	}
}

// TestStopped: that a child has stopped is said once, and not once it goes on.
func TestStopped(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, signals := newReaper(t)
	pid, err := r.Start(reaper.Command{Argv: []string{"sleep", "100"}, Report: -1, Terminal: -1})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		t.Helper()
		if err := r.Signal(pid, syscall.SIGSTOP, false); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(30 * time.Second); ; {
			if p, err := reaper.ReadProcess(pid); err == nil && p.State == 'T' {
				return
			}
			if time.Now().After(end) {
				t.Fatal("it does not stop")
			}
		}
	}
	if s := r.Stopped(pid); s != 0 {
		t.Error("it runs, and is said to have stopped")
	}
	stop()
	if first, again := r.Stopped(pid), r.Stopped(pid); first != syscall.SIGSTOP || again != 0 {
		t.Error("that it has stopped is not said, or not once")
	}
	_ = r.Signal(pid, syscall.SIGCONT, false)
	stop()
	_ = r.Signal(pid, syscall.SIGCONT, false)
	if s := r.Stopped(pid); s != 0 {
		t.Error("it goes on, and is said to have stopped")
	}
	_ = r.Signal(pid, syscall.SIGKILL, false)
	ended := false
	reapUntil(t, r, signals, func(reaper.Exit) { ended = true }, func() bool { return ended })
}
