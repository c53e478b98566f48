package takeover

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Listener is where the calls of a program and all its descendants arrive. It owns the descriptor. All methods may be
// called at the same time, but Serve only once.
type Listener struct {
	flags    Flags
	sizes    sizes
	listener *os.File // never polled by Go: it is a file so that it can't be closed and its number reused during an ioctl
	raw      syscall.RawConn

	// An epoll set of the listener, which Go's poller watches in its place. The listener itself must not go there: its
	// poll operation says EPOLLERR when a signal arrives while it waits for a mutex (seccomp_notify_poll), and Go takes a
	// file that does so for one that can't be polled.
	epoll *os.File
	ready syscall.RawConn

	closed atomic.Bool

	// What this process is, read once: a program may bind a thousand sockets.
	network [2]uint64 // its network namespace
	user    known[[2]uint64]
	rights  known[identity]

	calls    int           // in flight at once; see Serve
	patience time.Duration // for one of them to end
}

// The bounds of Serve: how many calls are handled at once, and how long the next one waits when all those are stuck.
const (
	maxCalls    = 64
	maxPatience = 5 * time.Second
)

// newListener takes fd over if it succeeds.
func newListener(fd int, flags Flags) (*Listener, error) {
	s, err := notifSizes()
	if err != nil {
		return nil, fmt.Errorf("ask for the size of seccomp notifications: %w", err)
	}
	epoll, err := epollSet(fd)
	if err != nil {
		return nil, fmt.Errorf("watch seccomp listener: %w", err)
	}
	l := &Listener{flags: flags, sizes: s, epoll: epoll, calls: maxCalls, patience: maxPatience}
	if l.network, err = namespace("/proc/self/ns/net"); err != nil {
		_ = epoll.Close()
		return nil, fmt.Errorf("look at the own network namespace: %w", err)
	}
	if l.ready, err = epoll.SyscallConn(); err != nil {
		_ = epoll.Close()
		return nil, fmt.Errorf("watch seccomp listener: %w", err)
	}
	// A blocking descriptor, so Close does not wait for a call that is in its ioctl.
	l.listener = os.NewFile(uintptr(fd), "seccomp listener")
	l.raw, _ = l.listener.SyscallConn() // fails for a nil file only
	return l, nil
}

// epollSet makes a set of fd for Go's poller.
func epollSet(fd int) (*os.File, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err = unix.SetNonblock(set, true); err == nil { // what makes os.NewFile give it to the poller
		err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	if err != nil {
		_ = unix.Close(set)
		return nil, err
	}
	return os.NewFile(uintptr(set), "epoll"), nil
}

// Flags says with what the kernel installed the filter.
func (l *Listener) Flags() Flags { return l.flags }

// Close ends Serve and closes the listener. From then on the filtered calls of processes that still have the filter fail
// with ENOSYS, those that wait for an answer included: it is for when Serve has returned, or nothing is left to serve.
func (l *Listener) Close() error {
	l.closed.Store(true)
	err := l.epoll.Close()
	return errors.Join(err, l.listener.Close())
}

// Serve hands every call to handle, each in a goroutine of its own, and answers Continue for those that handle has left
// unanswered. It returns nil when no process uses the filter any more (before Linux 6.11: and all of them have been
// reaped), or after Close; after an error Close is due, or the program would wait for ever. The handlers have returned
// when Serve does, but for such as are stuck: it waits 5 s for them.
//
// A bounded number of calls is handled at once; the kernel holds the others back, in order. Should all be stuck, in the
// memory of a program that answers its own page faults (userfaultfd, FUSE), then the rest continue without being asked
// for, so that the program has a problem with its port and not a hang.
func (l *Listener) Serve(handle func(*Call)) error {
	slots := make(chan struct{}, l.calls)
	defer func() { drain(slots, l.patience) }()
	patience := l.patience
	for {
		n, err := l.next()
		switch {
		case errors.Is(err, os.ErrClosed), errors.Is(err, errUnused):
			return nil
		case err != nil:
			return fmt.Errorf("receive seccomp notification: %w", err)
		}
		c := l.call(n)
		if !admit(slots, patience) {
			patience = 0 // waited long enough, until one comes free
			c.finish()
			continue
		}
		patience = l.patience
		go func() {
			defer func() { <-slots }()
			defer c.finish()
			handle(c)
		}()
	}
}

// admit waits for a slot.
func admit(slots chan<- struct{}, patience time.Duration) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// drain waits for all slots.
func drain(slots chan<- struct{}, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for range cap(slots) {
		select {
		case slots <- struct{}{}:
		case <-timer.C:
			return
		}
	}
}

// errUnused says that no process uses the filter.
var errUnused = errors.New("no process uses the filter")

// next waits for a notification.
func (l *Listener) next() (n notif, err error) {
	waitErr := l.ready.Read(func(fd uintptr) bool {
		for {
			events := poll(fd)
			switch {
			case events == 0:
				return false
			case events&unix.EPOLLIN != 0:
				// Only this goroutine receives and something was there, so this does not wait; see receive.
				err = l.ioctl(func(listener uintptr) (err error) {
					n, err = receive(listener, l.sizes)
					return err
				})
				if err == unix.ENOENT || err == unix.EINTR { // its thread was killed or interrupted
					continue
				}
				return true
			case events&unix.EPOLLHUP != 0:
				err = errUnused
				return true
			}
			// EPOLLERR alone: asked at a bad moment, see Listener.epoll.
		}
	})
	if waitErr != nil {
		err = waitErr
	}
	if err != nil && l.closed.Load() {
		err = os.ErrClosed
	}
	return n, err
}

// poll returns what the set reports now.
func poll(set uintptr) uint32 {
	events := make([]unix.EpollEvent, 1)
	if n, err := unix.EpollWait(int(set), events, 0); err != nil || n == 0 {
		return 0
	}
	return events[0].Events
}

// ioctl calls f with the listener's descriptor, which stays open meanwhile. After Close: os.ErrClosed.
func (l *Listener) ioctl(f func(listener uintptr) error) (err error) {
	if closed := l.raw.Control(func(fd uintptr) { err = f(fd) }); closed != nil {
		return os.ErrClosed
	}
	return err
}
