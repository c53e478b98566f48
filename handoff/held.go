package handoff

import (
	"slices"

	"holdfast/handoff/port"
)

// There may be a thousand held ports, and a generation opens them one after the other: whatever is done for each of them
// must not look at all the others.

// hold adds a port to the held ones.
func (l *Loop) hold(p *port.Port) {
	l.ports = append(l.ports, p) // whoever reads a slice of before has a shorter one, in which nothing changes
	l.byAddress[p.String()] = p
	l.near[placeOf(p.Spec())] = append(l.near[placeOf(p.Spec())], p)
	l.portsChanged(p)
}

// unhold takes a port off the held ones.
func (l *Loop) unhold(p *port.Port) {
	if !l.isHeld(p) {
		return
	}
	other := func(q *port.Port) bool { return q == p }
	l.ports = slices.DeleteFunc(slices.Clone(l.ports), other)
	delete(l.byAddress, p.String())
	at := placeOf(p.Spec())
	if l.near[at] = slices.DeleteFunc(l.near[at], other); len(l.near[at]) == 0 {
		delete(l.near, at)
	}
	l.portsChanged(p)
}

// portsChanged tells everybody who has to know that p has come or gone.
func (l *Loop) portsChanged(p *port.Port) {
	held := l.ports[:len(l.ports):len(l.ports)]
	l.held.Store(&held)
	for _, q := range l.near[placeOf(p.Spec())] {
		q.SetOverlaps(l.overlapping(q.Spec()))
	}
	l.changed()
}

// isHeld says whether a port is one of the held ones.
func (l *Loop) isHeld(p *port.Port) bool { return l.byAddress[p.String()] == p }

// given says whether a port is one of --listen's, whose sockets are given to the child at its start. The others it opens
// for itself.
func (l *Loop) given(p *port.Port) bool { return l.listened[p.String()] }

// changed wakes who waits for the ports that a generation has to be others.
func (l *Loop) changed() {
	next := make(chan struct{})
	close(*l.opens.Swap(&next))
}

// nextChange returns a channel that is closed when the ports that a generation has next may be others. It may be called
// from anywhere.
func (l *Loop) nextChange() <-chan struct{} { return *l.opens.Load() }

// portsOf returns the held ports that generation n has a socket on. It may be called from anywhere.
func (l *Loop) portsOf(n int) []*port.Port {
	var of []*port.Port
	for _, p := range l.allPorts() {
		if _, has := p.FD(n); has {
			of = append(of, p)
		}
	}
	return of
}

// allPorts are those that are held, by whichever generation. It may be called from any goroutine.
func (l *Loop) allPorts() []*port.Port {
	if held := l.held.Load(); held != nil {
		return *held
	}
	return nil
}
