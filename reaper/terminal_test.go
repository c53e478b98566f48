package reaper_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// TestTerminal: the foreground goes from this process to a child and on to the next, but is not taken from anybody else.
func TestTerminal(t *testing.T) {
	const ours = 0 // the terminal, as descriptor
	if os.Getenv(helperVariable) == "" {
		master, slave := openTerminal(t)
		stdin := os.Stdin
		defer func() { os.Stdin = stdin }()
		os.Stdin = slave
		alone(t, &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: ours})
		master.Close()
		return
	}
	foreground := func() int {
		group, err := unix.IoctlGetInt(ours, unix.TIOCGPGRP)
		if err != nil {
			t.Fatal(err)
		}
		return group
	}
	r, _ := newReaper(t)
	if got := reaper.Terminal(ours, 0); got != ours {
		t.Fatalf("Terminal = %d in the foreground (group %d, own %d)", got, foreground(), unix.Getpgrp())
	}
	first, err := started(t, r, reaper.Command{Argv: []string{"sleep", "100"}, Files: []int{0, 1, 2}, Terminal: ours})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Signal(first, syscall.SIGKILL, false)
	if foreground() != first {
		t.Errorf("the foreground is %d, want the child's, %d", foreground(), first)
	}
	second := sleeper(t, r, []int{0, 1, 2})
	for _, c := range []struct{ given, want int }{{0, -1}, {second, -1}, {first, ours}} {
		if got := reaper.Terminal(ours, c.given); got != c.want {
			t.Errorf("Terminal(%d, %d) = %d, want %d", ours, c.given, got, c.want)
		}
	}
	if err := reaper.GiveTerminal(ours, second); err != nil || foreground() != second {
		t.Errorf("GiveTerminal: %v; the foreground is %d, want %d", err, foreground(), second)
	}
	if err := reaper.GiveTerminal(ours, 1<<22); err == nil {
		t.Error("it was given to nobody")
	}
	null, _ := pipe(t)
	if got := reaper.Terminal(int(null.Fd()), 0); got != -1 {
		t.Errorf("Terminal of a pipe = %d", got)
	}
}

func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
