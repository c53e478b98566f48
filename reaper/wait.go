package reaper

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ended is siginfo_t as waitid(2) fills it, up to what is needed; the kernel's is longer.
type ended struct {
	signal, errno, code, _ int32
	pid                    int32
	uid                    uint32
	status                 int32
}

// The codes of a child that has ended (sigaction(2), SIGCHLD).
const (
	codeExited = 1
	codeKilled = 2
	codeDumped = 3
)

// codeStopped is the code of a child that a signal has stopped.
const codeStopped = 5

// wait is waitid(2) without waiting; ok says that there is such a child.
func wait(kind, id, options int) (e ended, ok bool) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(kind, id, &info, options|unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		e = *(*ended)(unsafe.Pointer(&info))
		return e, err == nil && e.pid != 0
	}
}

// peek returns a child that has ended, and leaves it a zombie.
//
// The kernel tells of stops, too, where a child has asked to be traced by its parent (PTRACE_TRACEME). Each such report is
// taken away: it would be seen for ever, before the ends behind it. The child stays stopped until it is killed, since only
// the thread that started it could have it go on.
func peek() (Exit, bool) {
	for {
		e, ok := wait(unix.P_ALL, 0, unix.WEXITED|unix.WNOWAIT)
		if !ok {
			return Exit{}, false
		}
		if e.code == codeExited || e.code == codeKilled || e.code == codeDumped {
			return Exit{PID: int(e.pid), Status: e.waitStatus()}, true
		}
		wait(unix.P_PID, int(e.pid), unix.WSTOPPED)
	}
}

// collect frees the number of a child that has ended.
func collect(pid int) { wait(unix.P_PID, pid, unix.WEXITED) }

// waitStatus is what wait4(2) says of the same end.
func (e ended) waitStatus() syscall.WaitStatus {
	const dumped = 0x80
	switch e.code {
	case codeExited:
		return syscall.WaitStatus(e.status&0xff) << 8
	case codeDumped:
		return syscall.WaitStatus(e.status | dumped)
	}
	return syscall.WaitStatus(e.status)
}

// Stopped returns by which signal the child pid has been stopped, by Ctrl-Z say, and not continued since; 0 = it has not. It says
// so once. A child that asked to be traced, and is stopped by that, has not been.
func (r *Reaper) Stopped(pid int) syscall.Signal {
	e, _ := wait(unix.P_PID, pid, unix.WSTOPPED)
	if e.code != codeStopped {
		return 0
	}
	return syscall.Signal(e.status)
}
