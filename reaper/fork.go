package reaper

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What runs between fork and execve(2), and nothing else is in this file and forkfilter.go.
//
// The child is a copy of this process with one thread, the one that forked: Go's scheduler, its collector and every lock may
// be in any state in it. So begin, and whatever is called child…, allocates nothing, grows no stack (BeforeFork spoils
// stackguard0: a function that is not nosplit would end the child), writes no pointers (the write barrier may be on) and
// calls nothing but the kernel, with memory that plan.go has prepared. All signals are blocked until each has its default
// disposition: no handler of this process', Go's or package early's, ever runs in the child.
//
// It is a fork(2), not the vfork(2) of syscall.ForkExec, which stops the thread until execve(2) has returned: one that hangs,
// because the program's file system does not answer, would stop the goroutine that owns everything.

// The runtime gives these two names away (runtime/proc.go: "widely used packages access it using linkname").
//
//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

// begin makes the child, unless p is for this process itself, and returns its pid. In the child it does not return.
//
//go:norace
//go:nocheckptr
func (p *plan) begin() (pid int, errno unix.Errno) {
	if p.forked {
		// Who opens descriptors that are not close-on-exec from the first holds it, too.
		syscall.ForkLock.Lock()
		runtimeBeforeFork()
		n, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if n != 0 || errno != 0 {
			runtimeAfterFork()
			syscall.ForkLock.Unlock()
			return int(n), errno
		}
	}
	// Here, and not in a function of their own: with optimisations off (-N -l, for a debugger) their frames must fit into what
	// nosplit functions may take of the stack.
	p.childGroup()
	p.childFiles()
	if p.forked { // else Go's runtime, which is still here, misses its own
		p.childCloses()
	}
	if p.control {
		// Not stolen, as 1 would have it: it may be the one of a shell that this runs under (tty_ioctl(4)). Then, and where it
		// is no terminal at all, the program has none.
		const steal = 0
		syscall.RawSyscall6(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, steal, 0, 0, 0)
	}
	p.childPID()
	if p.filter != nil {
		p.childFilter()
	}
	p.childLimit()
	p.childSignals()
	p.childExecutes()
	return 0, 0
}

//go:nosplit
//go:norace
func (p *plan) childGroup() {
	if p.session {
		if _, _, errno := syscall.RawSyscall6(unix.SYS_SETSID, 0, 0, 0, 0, 0, 0); errno != 0 {
			p.childFails(stepGroup, 0, errno, 0)
		}
		return
	}
	if _, _, errno := syscall.RawSyscall6(unix.SYS_SETPGID, 0, 0, 0, 0, 0, 0); errno != 0 {
		p.childFails(stepGroup, 0, errno, 0)
	}
	if p.terminal < 0 {
		return
	}
	// In the background one may do that only with SIGTTOU blocked, as it is (tcsetpgrp(3)).
	pid, _, _ := syscall.RawSyscall6(unix.SYS_GETPID, 0, 0, 0, 0, 0, 0)
	p.scratch.group = int32(pid)
	if _, _, errno := syscall.RawSyscall6(unix.SYS_IOCTL, uintptr(p.terminal), unix.TIOCSPGRP, uintptr(unsafe.Pointer(&p.scratch.group)), 0, 0, 0); errno != 0 {
		p.childFails(stepTerminal, 0, errno, 0)
	}
}

// childFiles puts the descriptors in their places. Those that another would overwrite before their turn go behind all first.
//
//go:nosplit
//go:norace
func (p *plan) childFiles() {
	p.report = p.childAside(p.report, len(p.files))
	if p.filter != nil {
		p.filter.control = p.childAside(p.filter.control, len(p.files))
	}
	for i := range p.files {
		if p.files[i] >= 0 {
			p.files[i] = p.childAside(p.files[i], i)
		}
	}
	for i := range p.files {
		fd := p.files[i]
		var errno unix.Errno
		switch {
		case fd < 0:
			syscall.RawSyscall6(unix.SYS_CLOSE, uintptr(i), 0, 0, 0, 0, 0) // it need not have been open
		case fd == i: // dup3(2) refuses that
			_, _, errno = syscall.RawSyscall6(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0, 0, 0, 0)
		default:
			_, _, errno = syscall.RawSyscall6(unix.SYS_DUP3, uintptr(fd), uintptr(i), 0, 0, 0, 0)
		}
		if errno != 0 {
			p.childFails(stepFiles, i, errno, 0)
		}
	}
}

// childAside moves a descriptor that is below least behind all of the program's.
//
//go:nosplit
//go:norace
func (p *plan) childAside(fd, least int) int {
	if fd < 0 || fd >= least {
		return fd
	}
	moved, _, errno := syscall.RawSyscall6(unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, uintptr(len(p.files)), 0, 0, 0)
	if errno != 0 {
		p.childFails(stepFiles, fd, errno, 0)
	}
	return int(moved)
}

// childPID writes the child's own pid, which nobody knew before, behind the name of the variable for it.
//
//go:nosplit
//go:norace
func (p *plan) childPID() {
	if len(p.pid) == 0 {
		return
	}
	pid, _, _ := syscall.RawSyscall6(unix.SYS_GETPID, 0, 0, 0, 0, 0, 0)
	digits := 0
	for n := pid; n > 0; n /= 10 {
		digits++
	}
	p.pid[digits] = 0
	for ; digits > 0; digits-- {
		p.pid[digits-1] = '0' + byte(pid%10)
		pid /= 10
	}
}

// childCloses closes what is not the program's, but for the report and the filter's control socket. execve(2) would, but not
// before it has read the file, which may take for ever; and a socket of another generation's that this process closes
// meanwhile must be closed. It also leaves numbers for the filter's listener, however many descriptors this process has.
//
//go:nosplit
//go:norace
func (p *plan) childCloses() {
	next := len(p.files)
	if p.filter != nil && p.filter.control == next {
		next++ // it stays where it is: the report must not overwrite it
	}
	if p.report >= 0 {
		if p.report = childMoved(p.report, next); p.report != next {
			return
		}
		next++
	}
	if p.filter != nil && p.filter.control >= next {
		if p.filter.control = childMoved(p.filter.control, next); p.filter.control != next {
			return
		}
		next++
	}
	syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, uintptr(next), uintptr(^uint32(0)), 0, 0, 0, 0) // before Linux 5.9 execve(2) has to do
}

// childMoved returns the new number of a descriptor; the old one where there is no such number, because of the limit.
//
//go:nosplit
//go:norace
func childMoved(fd, to int) int {
	if fd == to {
		return fd
	}
	if _, _, errno := syscall.RawSyscall6(unix.SYS_DUP3, uintptr(fd), uintptr(to), unix.O_CLOEXEC, 0, 0, 0); errno != 0 {
		return fd
	}
	return to
}

// childLimit gives the limit of descriptors back that Go's runtime has raised, unless somebody has set another since: the
// same rule as in syscall.ForkExec.
//
//go:nosplit
//go:norace
func (p *plan) childLimit() {
	if !p.limited {
		return
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 0, uintptr(unsafe.Pointer(&p.scratch.limit)), 0, 0)
	if errno != 0 || p.scratch.limit.Cur == p.limit.Max-1 && p.scratch.limit.Max == p.limit.Max {
		syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&p.limit)), 0, 0, 0)
	}
}

// childSignals gives every signal its default disposition, also those that this process was started with as ignored and that
// Go's runtime leaves alone (32 to 34, SIGPROF): execve(2) keeps what is ignored. From here on a signal may end the child.
//
//go:nosplit
//go:norace
func (p *plan) childSignals() {
	const maskSize = 8
	for s := uintptr(1); s <= lastSignal; s++ {
		// SIGKILL and SIGSTOP refuse, as they should.
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&p.zero)), 0, maskSize, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&p.zero)), 0, maskSize, 0, 0)
}

// childExecutes does what execvp(3) does: it goes on after "not found" and "permission denied", and has /bin/sh read a
// script that has no first line.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (p *plan) childExecutes() {
	denied, incomplete := -1, -1
	env := uintptr(unsafe.Pointer(&p.env[0]))
	for i := range p.paths {
		path := uintptr(unsafe.Pointer(p.paths[i]))
		_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVE, path, uintptr(unsafe.Pointer(&p.argv[0])), env, 0, 0, 0)
		if errno == unix.ENOEXEC {
			// As a number: no pointer is written here.
			*(*uintptr)(unsafe.Pointer(&p.script[1])) = path
			_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVE, uintptr(unsafe.Pointer(p.shell)), uintptr(unsafe.Pointer(&p.script[0])), env, 0, 0, 0)
		}
		switch errno {
		case unix.ENOENT, unix.ENOTDIR:
			// The kernel says so, too, when the file is there and its interpreter is not.
			if _, _, errno := syscall.RawSyscall6(unix.SYS_FACCESSAT, childHere, path, unix.F_OK, 0, 0, 0); errno == 0 && incomplete < 0 {
				incomplete = i
			}
		case unix.EACCES:
			if denied < 0 {
				denied = i
			}
		default:
			p.childFails(stepExecute, i, errno, 0)
		}
	}
	switch {
	case denied >= 0:
		path := uintptr(unsafe.Pointer(p.paths[denied]))
		_, _, errno := syscall.RawSyscall6(unix.SYS_STATX, childHere, path, 0, unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(&p.scratch.stat)), 0)
		h := hint(0)
		if errno == 0 && p.childDirectory() {
			h = hintDirectory
		}
		p.childFails(stepExecute, denied, unix.EACCES, h)
	case incomplete >= 0:
		p.childFails(stepExecute, incomplete, unix.ENOENT, hintInterpreter)
	}
	p.childFails(stepExecute, len(p.paths), unix.ENOENT, 0)
}

// childHere is AT_FDCWD as an argument.
const childHere = ^uintptr(99)

// childDirectory says what scratch.stat is about.
//
//go:nosplit
//go:norace
func (p *plan) childDirectory() bool { return p.scratch.stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// childFails tells and exits, as a shell would.
//
//go:nosplit
//go:norace
func (p *plan) childFails(s step, which int, errno unix.Errno, h hint) {
	p.scratch.failure = failure{Step: s, Which: int32(which), Errno: int32(errno), Hint: h}
	if p.report >= 0 {
		// Nobody left to tell if that fails.
		syscall.RawSyscall6(unix.SYS_WRITE, uintptr(p.report), uintptr(unsafe.Pointer(&p.scratch.failure)), unsafe.Sizeof(p.scratch.failure), 0, 0, 0)
	}
	code := uintptr(CodeError)
	switch {
	case s != stepExecute:
	case errno == unix.ENOENT || errno == unix.ENOTDIR:
		code = CodeNotFound
	default:
		code = CodeNotExecutable
	}
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, code, 0, 0, 0, 0, 0)
	}
}
