package port

import (
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// A watch is an epoll set of a port's held sockets. The set itself is a file for Go's poller, so a watch costs one parked
// goroutine and no thread; the held sockets are in it as raw descriptors only. It exists while there is something to
// watch for: arrivals on sockets that are relayed, and generations that shut their listener down while others are in the
// group. A port at rest has none.
type watch struct {
	epoll *os.File
	raw   syscall.RawConn
	fd    int
}

func newWatch() (*watch, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll set: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // what makes os.NewFile give it to the poller
		_ = unix.Close(fd)
		return nil, fmt.Errorf("prepare epoll set: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("prepare epoll set: %w", err)
	}
	return &watch{epoll: file, raw: raw, fd: fd}, nil
}

// run calls each with every socket that has events, until the watch is closed.
func (w *watch) run(each func(id int, events uint32)) {
	events := make([]unix.EpollEvent, 16)
	for {
		var n int
		err := w.raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, event := range events[:n] {
			each(int(event.Fd), event.Events)
		}
	}
}

// set has the watch report events for s; 0 takes it out of the set. EPOLLHUP and EPOLLERR are always reported for a
// member. Port.mu is held.
func (w *watch) set(s *socket, events uint32) {
	op := unix.EPOLL_CTL_MOD
	switch {
	case events == 0:
		op = unix.EPOLL_CTL_DEL
	case s.watched == 0:
		op = unix.EPOLL_CTL_ADD
	}
	// A socket that cannot be watched loses nothing: its stragglers are relayed when it is retired.
	_ = unix.EpollCtl(w.fd, op, s.fd, &unix.EpollEvent{Events: events, Fd: int32(s.id)})
	s.watched = events
}

func (w *watch) close() { _ = w.epoll.Close() }

// What is watched for. A socket that is relayed reports once and is armed again when all has been taken from it: while a
// goroutine takes, and may be stuck in a blocking accept, it must not wake the watch.
const (
	forHangup   = unix.EPOLLET // no events but EPOLLHUP and EPOLLERR; non-zero, since 0 stands for none
	forArrivals = unix.EPOLLIN | unix.EPOLLONESHOT
)

// wanted is what is to be watched for on s.
func (p *Port) wanted(s *socket) uint32 {
	switch {
	case s.left || s.fd < 0:
		return 0
	case s.relaying && p.somebodyListens():
		return forArrivals
	case p.spec.Network == "tcp" && len(p.members) > 1:
		return forHangup
	default:
		return 0
	}
}

// somebodyListens says whether there is a live listener to relay to, here or where the port has been given up to. Without
// one the relay's own connection would come back to the socket that it was taken from, and so on.
func (p *Port) somebodyListens() bool {
	return p.heir != nil || slices.ContainsFunc(p.gens[p.live], func(s *socket) bool { return !s.left })
}

// rewatch brings the watch in line with the port's sockets. p.mu is held.
func (p *Port) rewatch() {
	if p.closed {
		return
	}
	sockets := p.sockets()
	need := false
	for _, s := range sockets {
		need = need || p.wanted(s) != 0
	}
	if need && p.watch == nil && !p.startWatch() {
		return
	}
	if p.watch == nil {
		return
	}
	for _, s := range sockets {
		// One that is busy arms itself when it is done.
		if events := p.wanted(s); events != s.watched && !(s.busy && events != 0) {
			p.watch.set(s, events)
		}
	}
	if !need {
		p.watch.close()
		p.watch = nil
	}
}

func (p *Port) startWatch() bool {
	w, err := newWatch()
	if err != nil {
		p.log.Warn("stragglers are relayed only at the end", "error", err)
		return false
	}
	p.watch = w
	p.tasks.Go(func() { w.run(p.event) })
	return true
}

// unwatch takes s out of the epoll set, before it is closed: a duplicate elsewhere would keep it there.
func (p *Port) unwatch(s *socket) {
	if p.watch != nil && s.watched != 0 {
		p.watch.set(s, 0)
	}
	s.watched = 0
}

// sockets are all that the port has.
func (p *Port) sockets() []*socket {
	seen := map[*socket]bool{}
	var all []*socket
	add := func(some []*socket) {
		for _, s := range some {
			if !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	add(p.members)
	for _, gen := range p.generations() {
		add(p.gens[gen])
	}
	return all
}

// event handles what the watch reports for the socket id.
func (p *Port) event(id int, events uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for _, s := range p.sockets() {
		if s.id != id {
			continue
		}
		if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && p.spec.Network == "tcp" && !s.left && !listening(s.fd) {
			p.lost(s)
		} else if s.relaying && !s.busy {
			p.help(s)
		}
		return
	}
}

// lost follows a listener that its own generation has shut down, which took it out of the group.
func (p *Port) lost(s *socket) {
	p.follow(s)
	p.later(p.sweep()) // clients of a live one that has left are to be refused, not to be taken by a stand-in
	p.rewatch()
}

func (p *Port) follow(s *socket) {
	p.leave(s)
	p.unwatch(s)
	p.log.Info("a generation has shut its listener down")
}

// notice follows listeners that have been shut down of which the watch has not told yet, and says whether there were any.
// It comes before every other change to the group: the order in which members come and go decides their places. p.mu is
// held.
func (p *Port) notice() (found bool) {
	if p.spec.Network != "tcp" {
		return false
	}
	for _, m := range slices.Clone(p.members) {
		if !listening(m.fd) {
			p.follow(m)
			found = true
		}
	}
	return found
}
