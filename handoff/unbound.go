package handoff

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"holdfast/handoff/port"
	"holdfast/handoff/takeover"
)

// unbound is what is known of the sockets that a generation's programs have not bound yet: the options that were set on
// them, and, with --takeover-at socket, a duplicate of each. It has a lock of its own, since calls about such sockets,
// most of them clients', are too many to wait for the loop.
type unbound struct {
	clock clock.WithDelayedExecution

	mu      sync.Mutex
	closed  bool
	options map[uint64][]takeover.Option // by inode
	noted   []uint64                     // the inodes in options, oldest first
	spares  map[uint64]*spare            // by inode
	kept    []uint64                     // the inodes in spares, oldest first
}

// A spare is a duplicate of a socket that the holder made for a program.
type spare struct {
	fd   int
	stop func()
}

// The bounds of what is kept for a program that makes sockets and never binds them. A server binds its socket within
// milliseconds. What is neither bound nor connected nor listens for spareTime is somebody's who sends datagrams from it,
// or has closed it: the holder's duplicate would keep the socket, and whatever port it has, open.
const (
	maxNoted  = 4096
	maxSpares = 256
	spareTime = 5 * time.Second
)

func newUnbound(c clock.WithDelayedExecution) *unbound {
	return &unbound{clock: c, options: map[uint64][]takeover.Option{}, spares: map[uint64]*spare{}}
}

// note keeps an option, the value that was set last.
func (u *unbound) note(inode uint64, o takeover.Option) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	all, known := u.options[inode]
	if !known {
		if len(u.noted) >= maxNoted {
			delete(u.options, u.noted[0])
			u.noted = slices.Delete(u.noted, 0, 1)
		}
		u.noted = append(u.noted, inode)
	}
	all = slices.DeleteFunc(slices.Clone(all), func(other takeover.Option) bool { return other.OptionName == o.OptionName })
	u.options[inode] = append(all, o)
}

// set returns the options that were set on a socket, in their order.
func (u *unbound) set(inode uint64) []takeover.Option {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.options[inode]
}

// forget drops the options of a socket that is bound.
func (u *unbound) forget(inode uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.options[inode]; known {
		delete(u.options, inode)
		u.noted = slices.DeleteFunc(u.noted, func(other uint64) bool { return other == inode })
	}
}

// keep takes over fd, a duplicate of a program's socket, until take, drop or the end of spareTime.
func (u *unbound) keep(inode uint64, fd int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		unix.Close(fd)
		return
	}
	if len(u.kept) >= maxSpares {
		u.dropLocked(u.kept[0])
	}
	s := &spare{fd: fd}
	u.spares[inode] = s
	u.kept = append(u.kept, inode)
	timer := u.clock.AfterFunc(spareTime, func() { u.expire(inode, s) })
	s.stop = func() { timer.Stop() }
}

// expire drops s, unless it has been taken and its inode is another socket's by now. It leaves the timer alone, which has
// run.
func (u *unbound) expire(inode uint64, s *spare) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.spares[inode] == s {
		s.stop = func() {}
		u.dropLocked(inode)
	}
}

// take returns the duplicate of a socket, which is the caller's from then on; -1 if there is none.
func (u *unbound) take(inode uint64) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.takeLocked(inode)
}

func (u *unbound) takeLocked(inode uint64) int {
	s, ok := u.spares[inode]
	if !ok {
		return -1
	}
	s.stop()
	delete(u.spares, inode)
	u.kept = slices.DeleteFunc(u.kept, func(other uint64) bool { return other == inode })
	return s.fd
}

// drop closes the duplicate of a socket, if there is one.
func (u *unbound) drop(inode uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dropLocked(inode)
}

func (u *unbound) dropLocked(inode uint64) {
	if fd := u.takeLocked(inode); fd >= 0 {
		unix.Close(fd)
	}
}

// idle says whether no duplicate is kept.
func (u *unbound) idle() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.spares) == 0
}

// close drops everything. Nothing is kept afterwards.
func (u *unbound) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for len(u.kept) > 0 {
		u.dropLocked(u.kept[0])
	}
	clear(u.options)
	u.noted = nil
}

// socketOptions are the options that have to be known when a socket is bound.
type socketOptions struct {
	v6only, v6onlySet, reusePort bool
	device                       bool          // it is bound to a network device
	others                       []port.Option // what its replacement gets
}

// summary reads what has been set on a socket by its program.
func summary(all []takeover.Option) (o socketOptions) {
	for _, one := range all {
		value, isInt := one.Int()
		switch one.OptionName {
		case takeover.OptionName{Level: unix.IPPROTO_IPV6, Name: unix.IPV6_V6ONLY}:
			if isInt {
				o.v6only, o.v6onlySet = value != 0, true
			}
		case takeover.OptionName{Level: unix.SOL_SOCKET, Name: unix.SO_REUSEPORT}:
			o.reusePort = isInt && value != 0
		case takeover.OptionName{Level: unix.SOL_SOCKET, Name: unix.SO_BINDTODEVICE}:
			o.device = len(one.Value) > 0 && one.Value[0] != 0
		case takeover.OptionName{Level: unix.SOL_SOCKET, Name: unix.SO_BINDTOIFINDEX}:
			o.device = isInt && value != 0
		default:
			o.others = append(o.others, port.Option{OptionName: port.OptionName(one.OptionName), Value: one.Value})
		}
	}
	return o
}

// optionsOf reads them from the socket itself.
func optionsOf(fd int) (o socketOptions) {
	is := func(level, name int) bool {
		v, err := unix.GetsockoptInt(fd, level, name)
		return err == nil && v != 0
	}
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	return socketOptions{
		v6only: is(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY), v6onlySet: err == nil,
		reusePort: is(unix.SOL_SOCKET, unix.SO_REUSEPORT),
		device:    is(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX),
	}
}
