package handoff

import (
	"slices"
	"time"
)

// releaseWaits are the waits between two looks at a socket that is bound and that nobody listens on, or that is UDP's. The
// last one goes on.
func releaseWaits() []time.Duration {
	return []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}
}

// releaseTogether is how much earlier than due a socket may be looked at, together with another: a look goes through all
// processes and all their descriptors, and a program may have a thousand UDP ports.
const releaseTogether = 50 * time.Millisecond

// releaseLater gives a socket up that the program has bound and closed again, or connected: a client with a port of its
// own, or a probe whether the port is free. The holder's duplicate would keep the address, and the connection open.
func (l *Loop) releaseLater(g *generation, t *taken) {
	t.looks = 0
	l.lookLater(g, t)
}

// lookLater has a socket looked at when its next wait is over.
func (l *Loop) lookLater(g *generation, t *taken) {
	waits := releaseWaits()
	wait := waits[min(t.looks, len(waits)-1)]
	t.due = l.now().Add(wait)
	l.wakeForRelease(g, t.due)
}

// wakeForRelease sees to it that there is a look at that time, or before.
func (l *Loop) wakeForRelease(g *generation, at time.Time) {
	if !g.nextRelease.IsZero() && !g.nextRelease.After(at) {
		return
	}
	if g.stopRelease != nil {
		g.stopRelease()
	}
	g.nextRelease = at
	g.stopRelease = l.after(at.Sub(l.now()), func() {
		g.nextRelease, g.stopRelease = time.Time{}, nil
		l.lookForRelease(g, at)
	})
}

// mayRelease says whether a socket that was to be looked at still is.
func (l *Loop) mayRelease(g *generation, inode uint64) (t *taken, ok bool) {
	t, ok = g.ledger.bound[inode]
	return t, ok && l.generations[g.number] == g && (!t.Listening() || t.Port().Spec().Network == "udp")
}

// lookForRelease looks at all sockets that are due at a time, which has come.
func (l *Loop) lookForRelease(g *generation, at time.Time) {
	due, next := l.dueForRelease(g, at.Add(releaseTogether))
	due = slices.DeleteFunc(due, func(inode uint64) bool {
		connected := g.ledger.bound[inode].Connected()
		if connected {
			l.release(g, inode)
		}
		return connected
	})
	if len(due) == 0 {
		l.releaseLeft(g, nil, nil, next)
		return
	}
	l.census(func(s seen) {
		members, err := s.of(g)
		go func() {
			var left []uint64
			if err == nil { // else nobody can be seen just now: that says nothing
				left = leftBy(members, due) // which may take a while
			}
			l.post(func() { l.releaseLeft(g, due, left, next) })
		}()
	})
}

// dueForRelease returns the sockets that are due until then, which are not any more, and when the next one will be.
func (l *Loop) dueForRelease(g *generation, until time.Time) (due []uint64, next time.Time) {
	for inode, t := range g.ledger.bound {
		if t.due.IsZero() {
			continue
		}
		switch _, ok := l.mayRelease(g, inode); {
		case !ok:
			t.due = time.Time{}
		case !t.due.After(until):
			t.due = time.Time{}
			due = append(due, inode)
		case next.IsZero() || t.due.Before(next):
			next = t.due
		}
	}
	slices.Sort(due)
	return due, next
}

// releaseLeft gives up those of the sockets that nobody has left, and has the others looked at again.
func (l *Loop) releaseLeft(g *generation, looked, left []uint64, next time.Time) {
	if !next.IsZero() {
		l.wakeForRelease(g, next)
	}
	for _, inode := range looked {
		switch t, ok := l.mayRelease(g, inode); {
		case !ok:
		case slices.Contains(left, inode) && !t.answering:
			l.release(g, inode)
		default:
			t.looks++
			l.lookLater(g, t)
		}
	}
}
