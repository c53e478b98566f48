// Package takeover lets a holder answer the system calls with which a program opens a port. Its invariant: every call
// that is notified is answered exactly once, if by nobody else then with "go on as if nobody had asked", as long as the
// holder lives; a call whose thread is gone, whose memory can't be read or whose handler forgot it is never more than an
// error or an ordinary bind(2).
//
// A child puts a seccomp filter (Filter) on itself between fork and exec and sends its listener to the holder, which
// Receives it and Serves the calls. The package is mechanism: which address is held, and with which socket, is for its caller.
//
// It is no security boundary, and cannot be one: the program may rewrite its memory after it was read (TOCTOU,
// seccomp_unotify(2)). Descriptors are replaced, memory is never written.
//
// Kernels: notifications came with Linux 5.0, Continue with 5.5, Replace with 5.9, the atomic Give with 5.14. Before 6.0
// (WAIT_KILLABLE_RECV) a signal, such as the SIGURG with which Go preempts, may interrupt a call that is being answered;
// it then comes again, with what Replace did already done. Kernels before 6.17 can do so even with that flag when the
// answer is very fast (fixed by "seccomp: Fix a race with WAIT_KILLABLE_RECV if the tracer replies too fast"). So a
// handler must give the same answer to the same question.
package takeover

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrNested: a filter above this one has a listener already, and the kernel allows one (EBUSY). The program runs under
	// another holder, or in a container whose runtime uses notifications itself.
	ErrNested = errors.New("another seccomp listener is above this process")
	// ErrLost: the filter is installed and its listener is not with the holder, so that every filtered call of the program
	// fails with ENOSYS. It must not be executed, or not go on, but start again without a filter.
	ErrLost = errors.New("the seccomp listener was lost")
	// ErrNoListener: the child's end of the control socket was closed without a message.
	ErrNoListener = errors.New("the child sent no listener")
	// ErrGone: nobody waits for this answer: the call was answered before, was interrupted by a signal, or its thread or
	// the listener is gone. There is nothing to do about it.
	ErrGone = errors.New("the call is over")
)

// An InstallError says why the filter could not be installed. Receive returns it, or Explain where the filter
// is required. The program can be executed without the filter.
type InstallError struct {
	Errno  unix.Errno
	Reason string // one line: what failed and what would help
}

func (e *InstallError) Error() string {
	return fmt.Sprintf("install seccomp filter: %s: %v", e.Reason, e.Errno)
}

func (e *InstallError) Unwrap() error { return e.Errno }

// Is makes EBUSY from the kernel ErrNested.
func (e *InstallError) Is(target error) bool { return target == ErrNested && e.Errno == unix.EBUSY }

// Flags says with what the kernel installed the filter.
type Flags struct {
	WaitKillable bool // a call that the holder has seen is no longer interrupted by signals, but for SIGKILL (Linux 6.0)
	SpecAllow    bool // speculative store bypass is not switched off for the program
	NoNewPrivs   bool // no_new_privs had to be set: setuid programs and file capabilities have no effect below this process
}
