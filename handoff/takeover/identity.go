package takeover

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// asTarget is As for the target: a root without CAP_SYS_PTRACE may not look into a process of another uid, but may become
// that uid, and the kernel's check for /proc goes by the file-system ids (PTRACE_MODE_FSCREDS, ptrace(2)).
func (c *Call) asTarget(f func() error) error { return As(c.PID, f) }

// As calls f, which looks at a process (or thread) in /proc, and where that was refused (EPERM, EACCES, ENOSYS) again with
// the process's own uid and gid in the file-system's eyes. A root without CAP_SYS_PTRACE, as in a container with Docker's
// capabilities, can see the descriptors of a server that has changed its uid in no other way. f runs on another thread
// then, and must open nothing that it does not close. The error is f's.
func As(pid int, f func() error) error {
	err := f()
	if !refused(err) {
		return err
	}
	who, idErr := identify(pid)
	if idErr != nil {
		return err
	}
	if again := as(who, f); again != nil {
		return fmt.Errorf("as uid %d: %w", who.uid, again)
	}
	return nil
}

// as calls f on a thread with the file-system ids of who. The thread is given up if it can't be made what it was: one
// whose goroutine ends while locked to it ends too.
func as(who identity, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err, restored := change(who, f)
		if restored {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// change does what as says on the calling thread, and tells whether that is as it was before.
func change(who identity, f func() error) (err error, restored bool) {
	wasDumpable, death := dumpable(), deathSignal()
	uid, _ := unix.SetfsuidRetUid(-1) // the only way to ask
	gid, _ := unix.SetfsgidRetGid(-1)
	before, err := who.rights.remember()
	if err != nil {
		return err, true
	}
	// Those of the ids return no error: the look below tells.
	err = who.rights.join()
	_ = unix.Setfsgid(who.gid)
	_ = unix.Setfsuid(who.uid)
	if now, _ := unix.SetfsuidRetUid(-1); now != who.uid {
		err = unix.EPERM
	}
	if err == nil {
		err = who.rights.lower()
	}
	if err == nil {
		err = f()
	}
	lost := before.capable() // first, so that the ids may be changed
	_ = unix.Setfsuid(uid)
	_ = unix.Setfsgid(gid)
	lost = errors.Join(lost, before.regroup(), before.capable()) // with the uid 0 come capabilities for files
	// Every change makes the process undumpable, so that /proc/1/fd would be closed to others of the same uid, and takes
	// the thread its parent-death signal (commit_creds in kernel/cred.c).
	if wasDumpable {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
	if death != 0 {
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(death), 0, 0, 0)
	}
	uidNow, _ := unix.SetfsuidRetUid(-1)
	gidNow, _ := unix.SetfsgidRetGid(-1)
	return err, uidNow == uid && gidNow == gid && lost == nil
}

// dumpable is asked once, before the first change: while another thread is changed the answer would be wrong.
var dumpable = sync.OnceValue(func() bool {
	v, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return err == nil && v == 1
})
