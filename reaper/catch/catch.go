// Package catch hands the signals that package early has caught to whoever they are for. Only a program that is an init may
// import it: from its very start all signals are caught then, and mean nothing until Catch or Release is called.
package catch

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
	"holdfast/reaper/early"
)

// Catch takes every signal since the very start of the program. All that a process can be sent goes to Forward, in the
// order in which the kernel gives it, real-time signals one by one; not those that this process raises itself: SIGPIPE by
// a write to a reader that has left, SIGXFSZ by one to a file that must not grow, SIGURG by the Go runtime. The SIGHUP of a
// terminal that has gone is a reaper.HangUp. SIGTTIN and SIGTTOU are ignored. Stop signals are Pending where a shell could have
// this process stop and go on; others that come right after one may overtake it. It is to be called once, and fails only where
// the program was short of descriptors at its start.
func Catch() (reaper.Signals, error) {
	return catch(os.Getpid() != 1 && reaper.Job())
}

// catch keeps stop signals pending if it is to.
func catch(holds bool) (reaper.Signals, error) {
	pendings := &pendings{}
	s := reaper.Signals{
		Forward: make(chan os.Signal, 256), // what does not fit waits in the pipe
		Child:   make(chan os.Signal, 1),   // SIGCHLD merges anyway

		Stop: stop, Due: pendings.due, Suspend: pendings.suspend, Drop: pendings.drop,
	}
	input, errno := early.Input()
	if errno != 0 {
		return s, fmt.Errorf("catch signals: %w", syscall.Errno(errno))
	}
	// Package os asks for it: not to be found here, a SIGPIPE of its own would end this process when anything in it writes
	// to os.Stderr after the reader has left. Ignore is what starts no threads, but tells the kernel, too.
	signal.Ignore(syscall.SIGPIPE)
	early.Catch(int(syscall.SIGPIPE))
	go deliver(os.NewFile(uintptr(input), "signals"), s, pendings)
	if holds = holds && pendings.watch() == nil; holds { // else they are taken as any signal is
		pendings.hold(bit(syscall.SIGTSTP))
	}
	s.CatchStops = func() {
		early.Catch(int(syscall.SIGTTIN))
		early.Catch(int(syscall.SIGTTOU))
		if holds {
			pendings.hold(stopSignals)
		}
	}
	return s, nil
}

// deliver passes on what comes, for as long as the process lives.
func deliver(came *os.File, to reaper.Signals, pendings *pendings) {
	self := int32(os.Getpid())
	infos := make([]early.Info, 64)
	others := threads{known: map[int]bool{int(self): true}} // the first thread takes them
	others.visit()
	for {
		n, err := came.Read(early.Bytes(infos))
		others.visit()
		child := n == len(infos)*early.Size // of a full pipe: a SIGCHLD may not have fitted
		for _, i := range infos[:n/early.Size] {
			s := syscall.Signal(i.Signal)
			if s == syscall.SIGCHLD {
				child = true
				continue
			}
			// The kernel names the writer as the sender: send_sig(SIGPIPE, current); SIGXFSZ where a file may not grow any more
			// (RLIMIT_FSIZE).
			if own := i.PID == self && i.Code <= 0; own && (s == syscall.SIGPIPE || s == syscall.SIGXFSZ) {
				continue
			}
			if i.IsMark() {
				for _, p := range pendings.marked() {
					to.Forward <- p
				}
				continue
			}
			if s == syscall.SIGHUP && i.Code > 0 {
				to.Forward <- reaper.HangUp{}
				continue
			}
			to.Forward <- s
		}
		if child {
			select {
			case to.Child <- syscall.SIGCHLD:
			default: // one is there: that is enough
			}
		}
		if err != nil {
			return // nobody closes it
		}
	}
}

// threads are those of this process, as far as they have been visited.
type threads struct {
	count int // as the runtime counted when they were last looked at
	known map[int]bool
}

// visit keeps those that the runtime has started since the last time from taking signals (early.Visit). Without /proc it
// cannot: they go on to take one each.
func (t *threads) visit() {
	count, _ := runtime.ThreadCreateProfile(nil)
	if count == t.count {
		return
	}
	t.count = count
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil && !t.known[id] {
			t.known[id] = true
			early.Visit(id)
		}
	}
}

// Files returns the limit of descriptors (RLIMIT_NOFILE) as this process was given it, before Go's runtime raised it: for
// reaper.GiveBack. ok is false where it could not be read.
func Files() (limit unix.Rlimit, ok bool) {
	l := early.Files()
	return unix.Rlimit{Cur: l.Soft, Max: l.Hard}, l != early.Limit{}
}

// stop sends SIGSTOP to pid, this process' own or 0, its group, unless there has been another number of SIGCONTs than acted: the handler
// has seen one more, or the kernel has one for it still. Sent between the look and the stop a SIGCONT has no effect, since SIGSTOP
// takes it back (signal(7)); so that this is a fraction of a microsecond, Go's scheduler gets no chance there.
func stop(pid int, acted uint32) (stopped bool, err error) {
	// sigpending(2) tells a thread only of what that thread has blocked; signalfd(2) of all.
	set := unix.Sigset_t{}
	set.Val[0] = 1 << (syscall.SIGCONT - 1)
	fd, err := unix.Signalfd(-1, &set, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK)
	if err == nil { // else it is short of descriptors: there is no other way to know
		defer unix.Close(fd)
	}
	look, now := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, unix.Timespec{} // a negative descriptor is none
	waits, _, _ := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&look)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if waits == 1 || early.Continued() != acted {
		return false, nil
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_KILL, uintptr(pid), uintptr(syscall.SIGSTOP), 0); errno != 0 {
		return false, fmt.Errorf("send SIGSTOP to %d: %w", pid, errno)
	}
	return true, nil
}

// Release gives every signal its default meaning back, for what is no init: it ends on Ctrl-C as any program does. What has
// come meanwhile comes again.
func Release() {
	for _, s := range early.Release() {
		syscall.Kill(os.Getpid(), syscall.Signal(s))
	}
}
