package reaper

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// inheritedMost bounds the numbers that Inherited looks at.
const inheritedMost = 1024

// Inherited lists the descriptors from 3 on that this process was given, and marks them close-on-exec: from now on they
// reach only those to whom they are passed. It has to be called before this process opens any that are not.
func Inherited() []int {
	var given []int
	for _, fd := range open() {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue // this process' own: all are opened so
		}
		unix.CloseOnExec(fd)
		given = append(given, fd)
	}
	return given
}

// open lists the numbers from 3 on that may be open.
func open() []int {
	var fds []int
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		for fd := 3; fd < inheritedMost; fd++ {
			fds = append(fds, fd)
		}
		return fds
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= 3 && fd < inheritedMost {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return fds
}
