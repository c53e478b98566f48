package takeover

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// Filter is what a program is to be started with (reaper.Command): the child puts it on itself between fork and exec, and
// sends its listener over control, the child's end of Pair.
//
// It waits for no acknowledgement: the program may begin at once, and its first bind(2) waits in the kernel until the
// holder answers. If the filter can't be installed the holder is told why (Receive returns an *InstallError, which is
// ErrNested for EBUSY), and the program is executed without, unless it is required: then the child tells the same to who
// started it (Explain). Where the listener could not be sent the program is not executed: ErrLost.
func (o FilterOptions) Filter(control int, required bool) *reaper.Filter {
	f := &reaper.Filter{Attempts: attempts(), Control: control, Required: required}
	if a, ok := native(); ok { // else the kernel has no program to take, and says EINVAL
		f.Program = program(a, o)
	}
	return f
}

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

// flagsOf says with what a filter was installed.
func flagsOf(r reaper.FilterReport) Flags {
	return Flags{
		WaitKillable: r.Flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0,
		SpecAllow:    r.Flags&unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW != 0,
		NoNewPrivs:   r.NoNewPrivs != 0,
	}
}

// Explain adds to what became of a start, if it failed for want of the filter, what would help: an *InstallError or ErrLost.
func Explain(err error) error {
	var failed *reaper.FilterError
	switch {
	case !errors.As(err, &failed):
		return err
	case failed.Lost:
		return fmt.Errorf("send seccomp listener: %w: %w", ErrLost, failed.Errno)
	}
	return installError(failed)
}

// installError adds to the kernel's word what would help.
func installError(e *reaper.FilterError) *InstallError {
	if e.Raises {
		return &InstallError{Errno: e.Errno, Reason: loss}
	}
	return &InstallError{Errno: e.Errno, Reason: help(e.Errno)}
}

// loss is why a program is not put behind a filter, and what would help.
const loss = "the program has file capabilities or is setuid, which no_new_privs would take from it, and without CAP_SYS_ADMIN " +
	"the filter needs that: allow it what it needs in another way (net.ipv4.ip_unprivileged_port_start for its ports), " +
	"and take them from the file"

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
