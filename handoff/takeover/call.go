package takeover

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Call is a system call that waits for an answer. The first answer counts; further ones return ErrGone. All methods
// may be called at the same time.
type Call struct {
	ID   uint64 // unique for the listener
	PID  int    // of the calling thread (gettid(2)), in this process's namespace; 0 = it is not in it
	Nr   Syscall
	FD   int // of the target, which the call is about; -1 for Socket, Unlink and Rename
	Args [6]uint64

	byName bool // an Unlink or Rename that takes no descriptors of directories

	l    *Listener
	mu   sync.Mutex // held through an answer
	over bool       // answered, or nobody waits for it any more

	// status is the caller's /proc/TID/status. The thread waits, and changes nothing of what is read there, so that once is
	// enough.
	status func() ([]byte, error)
}

func (l *Listener) call(n notif) *Call {
	c := &Call{ID: n.id, PID: int(n.pid), FD: int(int32(n.data.args[0])), Args: n.data.args, l: l}
	c.status = sync.OnceValues(func() ([]byte, error) { return os.ReadFile(procPath(c.PID, "status")) })
	if a, ok := native(); ok {
		c.Nr = a.syscall(&n.data)
		c.byName = a.hasOld && (uint32(n.data.nr) == a.unlink || uint32(n.data.nr) == a.rename)
	}
	if c.Nr == Socket || c.Nr == Unlink || c.Nr == Rename {
		c.FD = -1
	}
	return c
}

// A Request is what socket(2) was asked for.
type Request struct {
	Kind        SocketKind
	Nonblock    bool
	CloseOnExec bool
}

// Request is what a Socket asks for.
func (c *Call) Request() Request {
	return Request{
		Kind:        kindOf(c.Args),
		Nonblock:    c.Args[1]&unix.SOCK_NONBLOCK != 0,
		CloseOnExec: c.Args[1]&unix.SOCK_CLOEXEC != 0,
	}
}

// Valid says whether the thread still waits for an answer. What has been read under its PID before was its own then: a
// number is not reused while its thread waits.
func (c *Call) Valid() bool {
	return c.l.ioctl(func(listener uintptr) error { return valid(listener, c.ID) }) == nil
}

// Continue lets the call go on as if it had not been notified. The kernel reads its arguments anew (Linux 5.5).
func (c *Call) Continue() error {
	return c.answer("continue", func(listener uintptr) error {
		return send(listener, c.l.sizes, resp{id: c.ID, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
	})
}

// Return ends the call without its being carried out: with 0, or with errno.
func (c *Call) Return(errno unix.Errno) error {
	return c.answer("return", func(listener uintptr) error {
		return send(listener, c.l.sizes, resp{id: c.ID, error: -int32(errno)})
	})
}

// Replace puts a duplicate of fd in the place of the target's FD, and has the call return 0 (Linux 5.9). An error other
// than ErrGone leaves the call unanswered. After ErrGone the descriptor may have been replaced all the same: the call
// was interrupted between, and comes again.
func (c *Call) Replace(fd int, closeOnExec bool) error {
	a := addfd{id: c.ID, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, srcfd: uint32(fd), newfd: uint32(c.FD), newfdFlags: cloexec(closeOnExec)}
	return c.answer("replace descriptor", func(listener uintptr) error {
		// Not with ADDFD_FLAG_SEND: the call would return the descriptor's number, and bind(2) returns 0.
		if _, err := add(listener, a); err != nil {
			return err
		}
		return send(listener, c.l.sizes, resp{id: c.ID})
	})
}

// Give adds a duplicate of fd to the target's descriptors, and has the call (Socket) return its number there. An error
// other than ErrGone leaves the call unanswered.
func (c *Call) Give(fd int, closeOnExec bool) (number int, err error) {
	a := addfd{id: c.ID, flags: unix.SECCOMP_ADDFD_FLAG_SEND, srcfd: uint32(fd), newfdFlags: cloexec(closeOnExec)}
	err = c.answer("give descriptor", func(listener uintptr) (err error) {
		if number, err = add(listener, a); err != unix.EINVAL {
			return err
		}
		// Before Linux 5.14 it takes two steps; if a signal comes between, the target keeps one descriptor too many.
		a.flags = 0
		if number, err = add(listener, a); err != nil {
			return err
		}
		return send(listener, c.l.sizes, resp{id: c.ID, val: int64(number)})
	})
	if err != nil {
		number = -1
	}
	return number, err
}

func cloexec(yes bool) uint32 {
	if yes {
		return unix.O_CLOEXEC
	}
	return 0
}

// answer gives the one answer.
func (c *Call) answer(what string, f func(listener uintptr) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return fmt.Errorf("%s: %w", what, ErrGone)
	}
	err := c.l.ioctl(f)
	if gone(err) {
		err = ErrGone
	}
	c.over = err == nil || err == ErrGone
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// gone recognises the kernel's words for an answer that nobody waits for: ENOENT when the thread is gone or was
// interrupted, ESRCH when that happened while a descriptor was on its way, EINPROGRESS when it has been answered.
func gone(err error) bool {
	return err == unix.ENOENT || err == unix.ESRCH || err == unix.EINPROGRESS || errors.Is(err, os.ErrClosed)
}

// finish sees to it that the call is answered. What Continue can't end, nothing can.
func (c *Call) finish() { _ = c.Continue() }

// checked returns err, or ErrGone where the thread no longer waits: then whatever was read, or could not be, may be that
// of another.
func (c *Call) checked(err error) error {
	if !c.Valid() {
		return ErrGone
	}
	return err
}
