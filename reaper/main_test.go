package reaper_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

const patience = 90 * time.Second

// helperVariable marks a process that alone has started.
const helperVariable = "REAPER_TEST_HELPER"

// TestMain lets this binary be the child of a test too: "role NAME …" as arguments say which. It goes by arguments, not by
// the environment, since some of these children have none.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		os.Exit(role(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// alone runs the calling test once more in a process of its own, where waiting for every child there is disturbs nobody,
// and returns false; in that process it returns true.
func alone(t *testing.T, attributes *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(helperVariable) != "" {
		// What the tests' own parents have left open is not for the children.
		if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), helperVariable+"=1", "GORACE=atexit_sleep_ms=0") // the detector sleeps a second at each exit
	cmd.SysProcAttr, cmd.Stdin = attributes, os.Stdin
	cmd.WaitDelay = time.Second // a child of its that it has left behind may have the output open
	if out, err := cmd.CombinedOutput(); err != nil && !errors.Is(err, exec.ErrWaitDelay) || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// role is what a child of a test does. Each says on its standard output what a test waits for, a line at a time, and goes
// when its standard input ends, as it does with the test's process.
func role(args []string) int {
	switch name, args := args[0], args[1:]; name {
	case "exit":
		return 0
	case "become":
		fmt.Fprintln(os.Stderr, reaper.Become(reaper.Command{
			Argv: args, Env: os.Environ(), PIDVariable: "OWN", Files: []int{0, 1, 2}, Report: -1, Terminal: -1,
		}))
	case "hold":
		fmt.Println("hold", os.Getpid())
	case "traceme":
		runtime.LockOSThread()
		_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0, 0, 0)
		fmt.Println("traceme", os.Getpid(), errno)
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGUSR1)
	case "tree":
		tree(args)
	case "parent": // of one child, then gone
		spawn(args[0], args[1:], &syscall.SysProcAttr{Setsid: true})
		return 0
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// tree starts what its words say: "same" a child; "session" one in a session of its own, whose child stays there; "zombie"
// one that is never reaped; "orphan:ENV" one whose parent is gone, with the environment "mark" (as it is), "none",
// "title" (as setproctitle leaves it) or "foreign"; "wiped" one in a session of its own, without an environment.
func tree(words []string) {
	session := &syscall.SysProcAttr{Setsid: true}
	for _, word := range words {
		kind, env, _ := strings.Cut(word, ":")
		switch kind {
		case "same":
			spawn("mark", []string{"hold"}, nil)
		case "session":
			spawn("mark", []string{"tree", "same"}, session)
		case "wiped":
			spawn("none", []string{"hold"}, session)
		case "zombie":
			pid := spawn("mark", []string{"exit"}, nil)
			var info unix.Siginfo
			_ = unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
			fmt.Println("zombie", pid)
		case "orphan":
			pid := spawn("mark", []string{"parent", env, "hold"}, nil)
			_, _ = syscall.Wait4(pid, nil, 0, nil) // then its child has been handed on
		}
	}
	fmt.Println("tree", os.Getpid())
}

// spawn starts this binary in a role and returns its pid.
func spawn(env string, args []string, attributes *syscall.SysProcAttr) int {
	environ := os.Environ()
	switch env {
	case "none":
		environ = nil
	case "title":
		environ = []string{"server: worker process", "PATH=/bin"}
	case "foreign":
		environ = []string{"PATH=/bin", "HOME=/"}
	}
	pid, err := syscall.ForkExec(os.Args[0], append([]string{os.Args[0], "role"}, args...),
		&syscall.ProcAttr{Env: environ, Files: []uintptr{0, 1, 2}, Sys: attributes})
	if err != nil {
		fmt.Fprintln(os.Stderr, "spawn:", err)
		os.Exit(3)
	}
	return pid
}

// eventually waits until ok, looking every millisecond. seen says what was there instead.
func eventually(t *testing.T, what string, ok func() bool, seen ...func() string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			for _, s := range seen {
				t.Log(s())
			}
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}
