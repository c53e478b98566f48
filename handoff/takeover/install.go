package takeover

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Install puts the filter on the calling thread, which must be the one that then execs (runtime.LockOSThread), and sends
// its listener over control, the child's end of Pair. It closes control in any case, and leaves the signal mask as it
// was.
//
// It waits for no acknowledgement: the program may begin at once, and its first bind(2) waits in the kernel until the
// holder answers. If the filter can't be installed the holder is told why (Receive returns the same *InstallError, which
// is ErrNested for EBUSY) and the program may be executed without. After any other error, ErrLost, it must not be.
func Install(control int, o FilterOptions) error { return install(control, o, attempts()) }

// attempts are the flags to try, best first. WAIT_KILLABLE_RECV came with Linux 6.0 (5.19 had it and could not use it),
// SPEC_ALLOW with 4.17; NEW_LISTENER is what all this is about.
func attempts() []uintptr {
	const listener = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	return []uintptr{
		listener | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		listener | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
		listener,
	}
}

func install(control int, o FilterOptions, attempts []uintptr) error {
	defer unix.Close(control)
	// Go preempts with SIGURG (agentsh#225): neither the installation nor the message shall be interrupted half-way.
	return undisturbed(func() error {
		listener, flags, failure := filter(o, attempts)
		if failure != nil {
			// A holder that does not hear of it sees the end of the socket, and falls back all the same.
			_ = tell(control, failureMessage(failure), -1)
			return failure
		}
		defer unix.Close(listener)
		if err := tell(control, listenerMessage(flags), listener); err != nil {
			return fmt.Errorf("send seccomp listener: %w: %w", ErrLost, err)
		}
		return nil
	})
}

// filter installs the program with the first flags that the kernel takes.
func filter(o FilterOptions, attempts []uintptr) (listener int, flags Flags, failure *InstallError) {
	a, ok := native()
	if !ok {
		return -1, flags, &InstallError{Errno: unix.ENOSYS, Reason: "this was built for " + runtime.GOARCH + ", and only amd64 and arm64 have a filter"}
	}
	prog := program(a, o)
	err := error(unix.EINVAL)
	for _, try := range attempts {
		listener, err = permitted(try, prog, o.Program, &flags.NoNewPrivs)
		if errors.Is(err, unix.EINVAL) {
			continue
		}
		flags.WaitKillable = try&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0
		flags.SpecAllow = try&unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW != 0
		break
	}
	if err != nil {
		return -1, flags, installError(err)
	}
	return listener, flags, nil
}

// permitted installs prog, with no_new_privs only where it must: with CAP_SYS_ADMIN the program keeps its setuid
// programs (sudo, ping) and file capabilities. Without, a program that lives on those of its own goes without the filter.
func permitted(flags uintptr, prog []unix.SockFilter, path string, noNewPrivs *bool) (int, error) {
	listener, err := setFilter(flags, prog)
	if !errors.Is(err, unix.EACCES) {
		return listener, err
	}
	if raises(path) {
		return -1, &InstallError{Errno: unix.EPERM, Reason: loss}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	*noNewPrivs = true
	return setFilter(flags, prog)
}

// installError adds to the kernel's word what would help.
func installError(err error) *InstallError {
	var errno unix.Errno
	var known *InstallError
	switch {
	case errors.As(err, &known):
		return known
	case !errors.As(err, &errno):
		errno = unix.EIO
	}
	return &InstallError{Errno: errno, Reason: help(errno)}
}

func help(errno unix.Errno) string {
	switch errno {
	case unix.EBUSY:
		return "a seccomp listener is above this process already: it runs under another holder, or the container runtime has one"
	case unix.EPERM, unix.EACCES:
		return "seccomp(2) is forbidden here: allow it in the container's seccomp profile, as RuntimeDefault does"
	case unix.ENOSYS:
		return "this kernel has no seccomp(2), or the container's seccomp profile hides it"
	case unix.EINVAL, unix.EOPNOTSUPP:
		return "this kernel has no seccomp notifications: they need Linux 5.0 or newer with CONFIG_SECCOMP_FILTER, and gVisor has none"
	case unix.EMFILE, unix.ENFILE:
		return "no descriptor is free: raise the limit on open files"
	default:
		return "the kernel refused it"
	}
}
