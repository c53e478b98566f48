package activation

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's struct sigaction: handler, flags, restorer (absent in the generic layout), mask. All zero, it
// is SIG_DFL in either layout, on amd64 as on arm64.
type sigaction [4]uint64

// lastSignal is the last signal's number (signal(7)).
const lastSignal = 64

// defaultDispositions gives every signal its default disposition, also those that this process was started with as
// ignored and that Go's runtime leaves alone (32 to 34, SIGPROF): execve(2) keeps what is ignored. From here on a signal
// may end this process: it is for the instant before it becomes the program.
func defaultDispositions() {
	var zero sigaction
	const maskSize = 8
	for s := uintptr(1); s <= lastSignal; s++ {
		// SIGKILL and SIGSTOP refuse, as they should.
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&zero)), 0, maskSize, 0, 0)
	}
}
