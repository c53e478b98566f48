package port

import (
	"golang.org/x/sys/unix"
)

// arrivals tells when something waits for the live generation: once, until it is asked again. It is how a holder that
// sleeps notices that a generation has closed its listener, which the holder's own duplicate hides: nobody accepts any
// more. It costs a parked goroutine, and wakes nobody while nothing arrives.
type arrivals struct {
	watch  *watch
	report func()
	in     map[int]bool // ids of the sockets in the set
}

// NextArrival has report called, once and from a goroutine of the Port's, when something waits for the live generation
// to take it. A later call replaces an earlier one, and is due when the generation has got another socket.
func (p *Port) NextArrival(report func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.arrivals == nil {
		w, err := newWatch()
		if err != nil {
			p.log.Debug("arrivals are not watched", "err", err)
			return
		}
		p.arrivals = &arrivals{watch: w, in: map[int]bool{}}
		p.tasks.Go(func() { w.run(func(int, uint32) { p.arrived() }) })
	}
	p.arrivals.report = report
	for _, s := range p.gens[p.live] {
		op := unix.EPOLL_CTL_ADD
		if p.arrivals.in[s.id] {
			op = unix.EPOLL_CTL_MOD
		}
		if unix.EpollCtl(p.arrivals.watch.fd, op, s.fd, &unix.EpollEvent{Events: forArrivals, Fd: int32(s.id)}) == nil {
			p.arrivals.in[s.id] = true
		}
	}
}

func (p *Port) arrived() {
	p.mu.Lock()
	var report func()
	if p.arrivals != nil {
		report, p.arrivals.report = p.arrivals.report, nil
	}
	p.mu.Unlock()
	if report != nil {
		report()
	}
}

// ignoreArrivals takes s out of the set, before it is closed: a duplicate elsewhere would keep it there. p.mu is held.
func (p *Port) ignoreArrivals(s *socket) {
	if p.arrivals != nil && p.arrivals.in[s.id] {
		_ = unix.EpollCtl(p.arrivals.watch.fd, unix.EPOLL_CTL_DEL, s.fd, nil)
		delete(p.arrivals.in, s.id)
	}
}
