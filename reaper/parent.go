package reaper

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// DieWithParent has the kernel send sig to this process when its parent dies (prctl(2), PR_SET_PDEATHSIG). A parent that
// has died already, as parent says who it was, counts as one that dies now.
func DieWithParent(sig syscall.Signal, parent int) error {
	// It belongs to the calling thread, of which none of Go's ever ends here.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(sig), 0, 0, 0); err != nil {
		return fmt.Errorf("ask for %s at the parent's death: %w", SignalName(sig), err)
	}
	if os.Getppid() == parent {
		return nil
	}
	if err := unix.Kill(os.Getpid(), sig); err != nil {
		return fmt.Errorf("send %s: %w", SignalName(sig), err)
	}
	return nil
}
