package takeover

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's structures (linux/seccomp.h), the same on amd64 and arm64.
type (
	sizes struct{ notif, resp, data uint16 } // struct seccomp_notif_sizes

	data struct { // struct seccomp_data
		nr   int32
		arch uint32
		ip   uint64
		args [6]uint64
	}

	notif struct { // struct seccomp_notif
		id    uint64
		pid   uint32
		flags uint32
		data  data
	}

	resp struct { // struct seccomp_notif_resp
		id    uint64
		val   int64
		error int32
		flags uint32
	}

	addfd struct { // struct seccomp_notif_addfd
		id         uint64
		flags      uint32
		srcfd      uint32
		newfd      uint32
		newfdFlags uint32
	}
)

// seccomp is seccomp(2). arg may be nil.
func seccomp(op, flags uintptr, arg unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_SECCOMP, op, flags, uintptr(arg))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// knowsFlags tells whether the kernel would take a filter with flags, without installing one: it checks the flags before
// it reads the program, so that the answer to no program is EFAULT, and EINVAL to unknown flags.
func knowsFlags(flags uintptr) error {
	if _, err := seccomp(unix.SECCOMP_SET_MODE_FILTER, flags, nil); err != unix.EFAULT {
		return err
	}
	return nil
}

// notifSizes asks how big the kernel's structures are: newer ones may be bigger than what is known here, and are read and
// written whole (SECCOMP_GET_NOTIF_SIZES, Linux 5.0).
func notifSizes() (s sizes, err error) {
	_, err = seccomp(unix.SECCOMP_GET_NOTIF_SIZES, 0, unsafe.Pointer(&s))
	return s, err
}

// A buffer holds one of the kernel's structures: at least size bytes, zero, aligned for 64-bit words.
func buffer(known uintptr, told uint16) []uint64 {
	return make([]uint64, (max(known, uintptr(told))+7)/8)
}

// receive takes a notification. It would wait for one if none was there: poll first. ENOENT means that one was there and
// its thread has gone.
func receive(listener uintptr, s sizes) (notif, error) {
	b := buffer(unsafe.Sizeof(notif{}), s.notif) // fresh: the kernel refuses one that is not zero
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return notif{}, errno
	}
	return *(*notif)(unsafe.Pointer(&b[0])), nil
}

// send answers a notification.
func send(listener uintptr, s sizes, r resp) error {
	b := buffer(unsafe.Sizeof(r), s.resp)
	*(*resp)(unsafe.Pointer(&b[0])) = r
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&b[0])))
	return failed(errno)
}

// valid says whether the thread of a notification still waits; ENOENT if not.
func valid(listener uintptr, id uint64) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, uintptr(unsafe.Pointer(&id)))
	return failed(errno)
}

// add gives the thread of a notification a descriptor and returns its number there. The thread itself puts it in place,
// so this waits for it, and a signal must not end that wait: with ADDFD_FLAG_SEND the kernel (up to 6.18 at least) would
// let the call return 0, as if descriptor 0 was the new one, and then deny that the notification was still open. A PID 1
// gets SIGCHLD on any of its threads at any time, so signals wait meanwhile.
func add(listener uintptr, a addfd) (n int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = undisturbed(func() error {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_ADDFD, uintptr(unsafe.Pointer(&a)))
		n = int(r)
		return failed(errno)
	})
	return n, err
}

// undisturbed calls f with all signals blocked on this thread, to which the goroutine must be locked.
func undisturbed(f func() error) error {
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, &before); err != nil {
		return err
	}
	// The same call with a mask that the kernel gave: it can't fail.
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return f()
}

func failed(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// deathSignal is what this thread gets when its parent ends; 0 = nothing, or it can't be told.
func deathSignal() int {
	var signal int32
	if unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0) != nil {
		return 0
	}
	return int(signal)
}
