package reaper

import (
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// Terminal returns fd if it is a terminal whose foreground this process has, to be handed to a child (see Command), or
// has handed to the process group given (0 = none) and may so hand on; and -1 otherwise: a process in the background must
// not take the foreground from whoever has it, and no trouble with a terminal may keep the child from starting.
func Terminal(fd, given int) int {
	foreground, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil || foreground != unix.Getpgrp() && foreground != given {
		return -1
	}
	return fd
}

// GiveTerminal hands the foreground of the terminal fd to the process group of a child that runs already.
func GiveTerminal(fd, group int) error {
	// In the background one may do that only with SIGTTOU blocked (tcsetpgrp(3)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	block, before := unix.Sigset_t{}, unix.Sigset_t{}
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err != nil {
		return fmt.Errorf("block SIGTTOU: %w", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group); err != nil {
		return fmt.Errorf("give the terminal to %d: %w", group, err)
	}
	return nil
}

// LendTerminal hands the foreground of the controlling terminal to the process group of a child, if this process' own group has
// it, or another one to which this process has handed it before (0 = none). It says so; else whoever has it keeps it. stdin may
// be something else than the terminal: then others of this process' group may be using that, and nothing is lent.
func LendTerminal(group, given int) (lent bool, err error) {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err == nil {
		defer unix.Close(fd)
	} else {
		fd = 0
	}
	foreground, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil || foreground == group || foreground != unix.Getpgrp() && (given == 0 || foreground != given) {
		return false, nil // there is none, or it is not ours; or the group has it, and has stopped all the same
	}
	if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err != nil && !aloneInGroup() {
		return false, nil
	}
	err = GiveTerminal(fd, group)
	return err == nil, err
}

// aloneInGroup says whether this process is the only one of its process group: not one of a script, or of a pipe.
func aloneInGroup() bool {
	ps, err := Processes()
	return err == nil && !slices.ContainsFunc(ps, func(p Process) bool {
		return p.Group == unix.Getpgrp() && p.PID != os.Getpid() && p.State != 'Z'
	})
}

// Job says whether a shell would notice, and could undo it, if this process stopped: whether its process group is not an
// orphaned one, in which some process has a parent in another group of the same session (setpgid(2)).
func Job() bool {
	session, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	for pid := os.Getppid(); pid > 0; {
		if theirs, err := unix.Getsid(pid); err != nil || theirs != session {
			return false
		}
		if group, err := unix.Getpgid(pid); err != nil || group != unix.Getpgrp() {
			return err == nil
		}
		p, err := ReadProcess(pid) // of the same group: a script that runs this, say
		if err != nil {
			return false
		}
		pid = p.Parent
	}
	return false
}

// LetTerminalGo gives the terminal fd up, if it is the controlling one, so that the session of a child can have it. told
// says that the kernel has sent SIGHUP and SIGCONT for that: it does when this process leads its session (tty_ioctl(4),
// TIOCNOTTY).
func LetTerminalGo(fd int) (told bool) {
	session, err := unix.Getsid(0)
	return err == nil && unix.IoctlSetInt(fd, unix.TIOCNOTTY, 0) == nil && session == unix.Getpid()
}
