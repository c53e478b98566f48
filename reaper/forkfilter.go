package reaper

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childFilter puts the filter in place, with the first flags that the kernel takes, and sends its listener. See fork.go for
// what may be done here.
//
// It sets no_new_privs only where it must: with CAP_SYS_ADMIN the program keeps its setuid programs (sudo, ping) and file
// capabilities. Without, a program that lives on those of its own goes without the filter.
//
//go:nosplit
//go:norace
func (p *plan) childFilter() {
	f := p.filter
	listener, errno := uintptr(0), unix.EINVAL
	for i := 0; i < len(f.attempts) && errno == unix.EINVAL; i++ {
		f.message.Flags = uint32(f.attempts[i])
		listener, errno = childInstalls(f.attempts[i], &f.program)
		if errno != unix.EACCES {
			continue
		}
		if p.childRaises() {
			f.message.Raises, errno = 1, unix.EPERM
		} else if _, _, errno = syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno == 0 {
			f.message.NoNewPrivs = 1
			listener, errno = childInstalls(f.attempts[i], &f.program)
		}
	}
	if errno != 0 {
		// A holder that does not hear of it sees the end of the socket, and falls back all the same.
		f.message.Errno = int32(errno)
		childSends(f.control, &f.without)
		syscall.RawSyscall6(unix.SYS_CLOSE, uintptr(f.control), 0, 0, 0, 0, 0)
		if f.required {
			p.childFails(stepFilter, 0, errno, hint(f.message.Raises))
		}
		return
	}
	*f.listener = int32(listener)
	if errno := childSends(f.control, &f.with); errno != 0 {
		p.childFails(stepSend, 0, errno, 0)
	}
	syscall.RawSyscall6(unix.SYS_CLOSE, listener, 0, 0, 0, 0, 0)
	syscall.RawSyscall6(unix.SYS_CLOSE, uintptr(f.control), 0, 0, 0, 0, 0)
}

//go:nosplit
//go:norace
func childSends(control int, m *unix.Msghdr) unix.Errno {
	// MSG_NOSIGNAL: a holder that is gone is an error, not the end of the child.
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDMSG, uintptr(control), uintptr(unsafe.Pointer(m)), unix.MSG_NOSIGNAL, 0, 0, 0)
	return errno
}

//go:nosplit
//go:norace
func childInstalls(flags uintptr, program *unix.SockFprog) (listener uintptr, errno unix.Errno) {
	listener, _, errno = syscall.RawSyscall6(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(program)), 0, 0, 0)
	return listener, errno
}

// childRaises says whether execve(2) of the program raises the privileges of this process, which no_new_privs prevents
// (execve(2), capabilities(7)). Root has them all, as far as it may.
//
//go:nosplit
//go:norace
func (p *plan) childRaises() bool {
	if p.uid == 0 {
		return false
	}
	for i := range p.paths {
		path := uintptr(unsafe.Pointer(p.paths[i]))
		if _, _, errno := syscall.RawSyscall6(unix.SYS_FACCESSAT, childHere, path, unix.X_OK, 0, 0, 0); errno != 0 {
			continue
		}
		_, _, errno := syscall.RawSyscall6(unix.SYS_STATX, childHere, path, 0, unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(&p.scratch.stat)), 0)
		if errno != 0 || p.childDirectory() {
			continue
		}
		const size = unsafe.Sizeof(p.scratch.attribute)
		n, _, errno := syscall.RawSyscall6(unix.SYS_GETXATTR, path, uintptr(unsafe.Pointer(p.filter.capability)), uintptr(unsafe.Pointer(&p.scratch.attribute)), size, 0, 0)
		if errno == 0 && n > 0 || errno == unix.ERANGE {
			return true
		}
		stat := &p.scratch.stat
		return stat.Mode&unix.S_ISUID != 0 && stat.Uid != p.uid || stat.Mode&unix.S_ISGID != 0 && stat.Gid != p.gid
	}
	return false
}
