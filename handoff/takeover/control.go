package takeover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// Pair makes the control socket: the end for Receive, and the one for the child's Filter. Both are close-on-exec. The holder
// closes child as soon as the child has been started, or Receive would never see the end.
func Pair() (holder *os.File, child int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("make control socket: %w", err)
	}
	// Only the holder's end, which goes to the netpoller: the two are descriptions of their own.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return nil, -1, fmt.Errorf("make control socket: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "takeover"), fds[1], nil
}

// Receive waits for the child's message and closes holder. The error is the *InstallError that the child reported,
// ErrNoListener if it ended without a word, ErrLost if its listener did not arrive, or the context's. After these last
// two the program runs, or is about to, and all its binds fail with ENOSYS: it must be ended.
func Receive(ctx context.Context, holder *os.File) (*Listener, error) {
	defer holder.Close()
	stop := context.AfterFunc(ctx, func() { _ = holder.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	message, fds, err := read(holder)
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("receive seccomp listener: %w", err)
	}
	l, err := accept(message, fds)
	if err != nil {
		closeAll(fds)
		return nil, fmt.Errorf("receive seccomp listener: %w", err)
	}
	return l, nil
}

// read takes one message and the descriptors that came with it, which are close-on-exec.
func read(holder *os.File) (message []byte, fds []int, err error) {
	raw, err := holder.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var failure error
	message = make([]byte, 2*reaper.FilterReportSize) // more than one is none
	rights := make([]byte, unix.CmsgSpace(4*4))       // room for more than the one that is due, which are then closed
	err = raw.Read(func(fd uintptr) bool {
		n, rn := -1, -1
		for failure = unix.EINTR; failure == unix.EINTR; {
			n, rn, _, _, failure = unix.Recvmsg(int(fd), message, rights, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		}
		if failure == unix.EAGAIN {
			return false
		}
		message, rights = message[:max(n, 0)], rights[:max(rn, 0)]
		return true
	})
	if err == nil {
		err = failure
	}
	switch {
	case errors.Is(err, unix.ECONNRESET): // the child died with something unread on its side
		return nil, nil, ErrNoListener
	case err != nil:
		return nil, nil, err
	case len(message) == 0:
		return nil, nil, ErrNoListener
	}
	return message, parseRights(rights), nil
}

// parseRights reads the descriptors out of control messages.
func parseRights(b []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return nil
	}
	for i := range messages {
		if len(messages[i].Data)%4 != 0 {
			continue // the kernel's are whole; the parser would panic
		}
		if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, more...)
		}
	}
	return fds
}

// accept makes a Listener of a message. If it fails, fds are still the caller's.
func accept(message []byte, fds []int) (*Listener, error) {
	report, err := reaper.ParseFilterReport(message)
	failure := report.Failed()
	switch {
	case err != nil:
		return nil, err
	case failure != nil:
		return nil, installError(failure)
	case len(fds) != 1:
		// The kernel drops what it finds no descriptor for (MSG_CTRUNC).
		return nil, fmt.Errorf("%w: %d descriptors came with it; raise the limit on open files", ErrLost, len(fds))
	}
	// Notifications are numbered from a random 64-bit one on, so 0 is none's; but only a listener says ENOENT to that.
	if err := valid(uintptr(fds[0]), 0); err != unix.ENOENT {
		return nil, fmt.Errorf("%w: another descriptor came: %w", ErrLost, errors.Join(err))
	}
	l, err := newListener(fds[0], flagsOf(report))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLost, err)
	}
	return l, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
