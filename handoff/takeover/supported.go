package takeover

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supported says in one line what this kernel lacks, nil if nothing. It asks only, and installs nothing; whether a
// listener is above this process already (ErrNested) only the start of a program can tell.
func Supported() error {
	if _, ok := native(); !ok {
		return fmt.Errorf("seccomp notifications: %s has no filter here, only amd64 and arm64", runtime.GOARCH)
	}
	for _, probe := range []func() error{actionAvailable, sizesAvailable, flagAvailable, replaceAvailable} {
		if err := probe(); err != nil {
			return fmt.Errorf("seccomp notifications: %w", err)
		}
	}
	return nil
}

func actionAvailable() error {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, err := seccomp(unix.SECCOMP_GET_ACTION_AVAIL, 0, unsafe.Pointer(&action))
	return helped(err)
}

func sizesAvailable() error {
	_, err := notifSizes()
	return helped(err)
}

func flagAvailable() error { return helped(knowsFlags(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)) }

// replaceAvailable looks for SECCOMP_IOCTL_NOTIF_ADDFD. It can't be asked for without a listener, so this goes by what
// came later and can, and else by the release.
func replaceAvailable() error {
	const later = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	if knowsFlags(later) == nil {
		return nil
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil
	}
	release := unix.ByteSliceToString(name.Release[:])
	if releaseBefore(release, 5, 9) {
		return fmt.Errorf("kernel %s can't replace descriptors: Linux 5.9 or newer is needed", release)
	}
	return nil
}

// releaseBefore says whether a kernel's release is older than major.minor. What it can't read is not.
func releaseBefore(release string, major, minor int) bool {
	var x, y int
	if n, _ := fmt.Sscanf(release, "%d.%d", &x, &y); n != 2 {
		return false
	}
	return x < major || x == major && y < minor
}

func helped(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	return fmt.Errorf("%s: %w", help(errno), err)
}
