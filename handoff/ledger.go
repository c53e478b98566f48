package handoff

import (
	"slices"
	"time"

	"holdfast/handoff/port"
	"holdfast/reaper"
)

// ledger is what is known of the sockets that a generation's programs have bound for themselves, by inode. It belongs to
// the loop.
type ledger struct {
	bound   map[uint64]*taken
	changes int // counts what has been bound or let go
	// answering is whom a call is just being given: by its process and descriptor. A call is answered with several sockets
	// where the generation has bound several before; the program gets the first.
	answering map[caller]*taken
}

// A caller is a process and which of its descriptors its call is about.
type caller struct{ pid, at int }

// taken is a socket that was put in place of a program's own, or is that.
type taken struct {
	*port.Bound
	reusePort bool
	since     time.Time
	pid, at   int  // which process has bound it, and under which descriptor; the process is 0 where that is not known
	answering bool // the program does not have it yet, since its call is still being answered
	change    int  // which of the ledger's changes it was

	looks int       // how often it was looked whether anybody has it, and when it will be next; see releaseLater
	due   time.Time // zero = not again
}

func newLedger() ledger { return ledger{bound: map[uint64]*taken{}, answering: map[caller]*taken{}} }

func (b *ledger) add(inode uint64, t *taken) {
	b.bound[inode] = t
	b.changes++
	t.change = b.changes
}

func (b *ledger) remove(inode uint64) {
	if t, bound := b.bound[inode]; bound {
		b.answered(t)
	}
	delete(b.bound, inode)
	b.changes++
}

// stillLeft returns those of the sockets that are left by the generation, as they were found to be when the ledger had that
// many changes: a worker may have got one since.
func (b *ledger) stillLeft(found []uint64, changes int) []uint64 {
	return slices.DeleteFunc(found, func(inode uint64) bool {
		t, bound := b.bound[inode]
		return bound && (t.answering || t.change > changes)
	})
}

// answer notes that a call is being answered with a socket.
func (b *ledger) answer(t *taken, pid, at int) {
	t.pid, t.at, t.answering = pid, at, true
	if c := (caller{pid, at}); b.answering[c] == nil || b.answering[c].Port() != t.Port() {
		b.answering[c] = t
	}
}

// answered notes that the program has its answer, or never will.
func (b *ledger) answered(all ...*taken) {
	for _, t := range all {
		t.answering = false
		if c := (caller{t.pid, t.at}); b.answering[c] == t {
			delete(b.answering, c)
		}
	}
}

// repeated is the socket that a call of the same process, about the same descriptor, is just being given: a signal has
// interrupted it, and it has come again.
func (b *ledger) repeated(p *port.Port, pid, at int) (*taken, bool) {
	t, ok := b.answering[caller{pid, at}]
	return t, ok && pid != 0 && t.Port() == p && !t.Own()
}

// has says whether the generation has bound a port for itself.
func (b *ledger) has(p *port.Port) bool {
	for _, t := range b.bound {
		if t.Port() == p {
			return true
		}
	}
	return false
}

// bindings is how the sockets that a generation has on a port came about.
type bindings struct {
	inodes    []uint64
	given     []uint64 // those that no program has bound yet: the generation has them from the one before it, or by --listen
	settled   []uint64 // those that a program has bound and has its answer about
	any       bool     // one of them has been bound by a program
	reusePort bool     // one of those with SO_REUSEPORT
	answering bool     // one of those has not reached its program yet
	binders   []reaper.Process
}

func (b *ledger) on(inodes []uint64) bindings {
	s := bindings{inodes: inodes}
	for _, inode := range inodes {
		if t, known := b.bound[inode]; known {
			s.any, s.reusePort, s.answering = true, s.reusePort || t.reusePort, s.answering || t.answering
			s.binders = append(s.binders, reaper.Process{PID: t.pid})
			if !t.answering {
				s.settled = append(s.settled, inode)
			}
		} else {
			s.given = append(s.given, inode)
		}
	}
	return s
}

// release closes a socket that no program listens on; what the ledger knows of others it forgets.
func (l *Loop) release(g *generation, inode uint64) {
	t := g.ledger.bound[inode]
	g.ledger.remove(inode)
	p := t.Port()
	if !t.Listening() {
		t.Release()
		if !p.Held() && l.opening[p.String()] == p && !l.boundElsewhere(p) {
			delete(l.opening, p.String())
			l.forgetUnused(p)
		}
		return
	}
	if p.Spec().Network != "udp" || p.Live() != g.number {
		return
	}
	switch mine := p.Inodes(g.number); {
	case !slices.Contains(mine, inode):
	case len(mine) > 1:
		l.retireOne(g, p, inode)
	case t.Connected():
		l.dropSocket(g, p)
	default:
		l.dropClosed(g, p)
	}
}

// boundElsewhere says whether another socket is bound on a port that nobody listens on yet.
func (l *Loop) boundElsewhere(p *port.Port) bool {
	for _, g := range l.generations {
		if g.ledger.has(p) {
			return true
		}
	}
	return false
}

// closeLedger gives up what a generation that is gone had bound and never listened on.
func (l *Loop) closeLedger(g *generation) {
	inodes := make([]uint64, 0, len(g.ledger.bound))
	for inode := range g.ledger.bound {
		inodes = append(inodes, inode)
	}
	slices.Sort(inodes)
	for _, inode := range inodes {
		l.release(g, inode)
	}
}
