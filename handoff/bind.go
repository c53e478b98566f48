package handoff

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/handoff/port"
	"holdfast/handoff/takeover"
	"holdfast/reaper"
)

// A request is a bind(2) that waits for its answer, and all that can be found out about it without the loop.
type request struct {
	call    *takeover.Call
	pid     int // of the process; 0 = it is not known
	info    takeover.SocketInfo
	address takeover.Sockaddr
	spec    port.Spec
	options socketOptions
	spare   int         // the holder's duplicate of the program's socket, -1 = none
	owner   *port.Owner // of a unix socket
	rights  takeover.Rights
	watched bool // the program has put its socket into an epoll set
}

// answerBind puts a socket of the holder's in the place of the program's own, or, where the holder has made that, binds it
// for the program. What is not to be held it lets go on.
func (l *Loop) answerBind(g *generation, c *takeover.Call) error {
	r, ok, err := l.read(g, c)
	if r.spare >= 0 {
		defer unix.Close(r.spare)
	}
	if !ok || err != nil {
		return err
	}
	v := l.settleOn(g, &r)
	if v.answered != nil {
		defer l.post(v.answered)
	}
	switch {
	case v.goesOn:
		return nil
	case v.fd >= 0:
		if r.watched {
			l.post(func() { l.deaf(g, r.spec) })
		}
		return c.Replace(v.fd, r.info.CloseOnExec)
	default:
		return c.Return(v.errno)
	}
}

// read finds out what a bind is about; ok is false for one that is not to be held. r.spare is the caller's in any case.
func (l *Loop) read(g *generation, c *takeover.Call) (r request, ok bool, err error) {
	r = request{call: c, spare: -1}
	if r.info, err = c.Socket(); err != nil {
		return r, false, err
	}
	r.spare = g.unbound.take(r.info.Inode) // what is bound is no spare any more, whoever binds it
	if r.address, err = c.Sockaddr(); err != nil {
		return r, false, err
	}
	path := ""
	if r.address.Kind == takeover.PathAddr {
		if path, err = c.Absolute(unix.AT_FDCWD, r.address.Name); err != nil {
			return r, false, err
		}
	}
	if r.spare >= 0 {
		r.options = optionsOf(r.spare)
	} else {
		r.options = summary(g.unbound.set(r.info.Inode))
	}
	if r.spec, ok = l.spec(r.address, path, r.info.Kind, r.options); !ok {
		return r, false, nil
	}
	r.pid, _ = c.Process() // needed only if the process can't be looked into when it listens
	if foreign, err := c.ForeignNetwork(); foreign || err != nil {
		return r, false, err
	}
	if r.rights, err = c.Rights(); err != nil {
		return r, false, err // it may do no more than it could without: so it does it itself
	}
	if r.spec.Network == "unix" {
		if r.owner, err = ownerOf(c); err != nil {
			return r, false, err
		}
		r.owner.Do = r.rights.Do
	}
	if r.spare < 0 && g.heard.Add(1) <= hearingTests {
		if r.watched, err = c.InEventpoll(r.info.Inode); err != nil && !errors.Is(err, takeover.ErrGone) {
			l.log.Debug("epoll sets are not known", "port", r.spec, "err", err)
		}
	}
	return r, true, nil
}

// hearingTests is of how many binds of a generation it is asked whether the program watches its socket already. It looks
// through all descriptors of the program, and one that does so with its first ports does so with all of a thousand.
const hearingTests = 32

// A verdict is the answer to a bind.
type verdict struct {
	goesOn   bool       // as if nobody had asked
	fd       int        // what to put in the place of the program's socket, -1 = nothing
	errno    unix.Errno // 0 = it is bound
	answered func()     // to be run by the loop when the program has its answer; nil = nothing
}

func letGoOn() verdict                  { return verdict{goesOn: true, fd: -1} }
func returning(e unix.Errno) verdict    { return verdict{fd: -1, errno: e} }
func replacing(fd int) verdict          { return verdict{fd: fd} }
func (v verdict) then(f func()) verdict { v.answered = f; return v }

// maxLooks bounds how often a bind is decided: with what is known, with a look at who bound last, with one at everybody,
// and some more because the ledger changed while nobody was looking.
const maxLooks = 5

// settleOn has the loop decide. Whether a process of the generation still has a socket it finds out in between, without
// the loop: a server may have very many descriptors.
func (l *Loop) settleOn(g *generation, r *request) verdict {
	var q question
	v := letGoOn()
	for range maxLooks {
		l.ask(func() { v, q = l.bind(g, r, q) })
		if !q.open {
			return v
		}
		if q.everyone {
			q.members, q.unseen = l.everyone(g)
		}
		if q.left = nil; !q.unseen {
			q.left = leftBy(q.members, q.inodes)
		}
	}
	return returning(unix.EADDRINUSE) // several threads are after this address at once
}

// A question is which of the sockets none of the processes has open.
type question struct {
	open     bool // it has not been answered, or the answer is not to be relied on
	members  []reaper.Process
	everyone bool // it is about all of the generation, who are still to be found
	unseen   bool // who they are cannot be seen just now: each socket may well be theirs
	inodes   []uint64
	changes  int      // of the ledger, when it was asked
	left     []uint64 // the answer
}

// asks makes the question of what generation g has: first of those that bound the sockets, which mostly have them still,
// then of all, which are to be found first.
func (l *Loop) asks(g *generation, inodes []uint64, on bindings, everyone bool) question {
	return question{open: true, everyone: everyone, inodes: inodes, changes: g.ledger.changes, members: on.binders}
}

// everyone has the generation's processes looked for, and waits for it; unseen: they cannot be seen just now. It is not for
// the loop.
func (l *Loop) everyone(g *generation) (members []reaper.Process, unseen bool) {
	found := make(chan seen, 1)
	l.post(func() { l.census(func(s seen) { found <- s }) })
	select {
	case s := <-found:
		members, err := s.of(g)
		return members, err != nil
	case <-l.done:
		return nil, true
	}
}

// bind decides on a bind, or asks something first. before is the answer to what it has asked.
func (l *Loop) bind(g *generation, r *request, before question) (verdict, question) {
	if l.generations[g.number] != g {
		// The last of it has been seen to be gone, and its sockets are: this one was overlooked. It gets none of the holder's.
		if l.byAddress[r.spec.String()] != nil {
			return returning(unix.EADDRINUSE), question{}
		}
		return letGoOn(), question{}
	}
	if t, again := g.ledger.bound[r.info.Inode]; again {
		if t.Port().String() == r.spec.String() {
			return returning(0), question{} // the call was interrupted after it had been answered
		}
		return returning(unix.EINVAL), question{} // as the kernel says to a socket that is bound already
	}
	p := l.portFor(g.number, r.spec)
	if t, again := g.ledger.repeated(p, r.pid, r.call.FD); again {
		return replacing(t.FD()), question{} // the call was interrupted while it was being answered
	}
	on := g.ledger.on(p.Inodes(g.number))
	workers := on.reusePort && r.options.reusePort
	switch {
	case len(on.inodes) == 0:
		if !p.Held() && isClients(r.spec) && g.proven(l) {
			return letGoOn(), question{}
		}
		return l.bindNew(g, p, r), question{}
	case workers && len(on.given) > 0:
		// Of several that it was given, each worker gets one of its own: one that nobody has would swallow its share.
		return l.bindAgain(g, p, r, on.given[:1]), question{}
	case workers:
		return l.bindWorkers(g, p, r, on, before)
	case !on.any: // what it was given at its start it may bind once
		return l.bindAgain(g, p, r, on.inodes), question{}
	case on.answering:
		return returning(unix.EADDRINUSE), question{}
	case before.changes != g.ledger.changes || !slices.Equal(before.inodes, on.inodes):
		return verdict{}, l.asks(g, on.inodes, on, before.everyone)
	case len(before.left) < len(on.inodes):
		return returning(unix.EADDRINUSE), question{} // as the kernel would say
	case !before.everyone:
		return verdict{}, l.asks(g, on.inodes, on, true)
	default: // a worker that its own supervisor has restarted: the same socket again, with its queue
		return l.bindAgain(g, p, r, on.inodes), question{}
	}
}

// bindWorkers decides on the bind of one of several workers that each have a socket of their own (SO_REUSEPORT). One that
// takes the place of a worker that has ended gets that one's socket, with its queue, since nobody else would serve it.
func (l *Loop) bindWorkers(g *generation, p *port.Port, r *request, on bindings, before question) (verdict, question) {
	left := slices.DeleteFunc(g.ledger.stillLeft(slices.Clone(before.left), before.changes), func(inode uint64) bool {
		return !slices.Contains(on.settled, inode)
	})
	switch {
	case r.spare >= 0, len(on.settled) == 0: // its own socket is to stay in its place
		return l.bindNew(g, p, r), question{}
	case !before.open:
		return verdict{}, l.asks(g, on.settled, on, false)
	case len(left) == 0:
		return l.bindNew(g, p, r), question{}
	case !before.everyone:
		return verdict{}, l.asks(g, left, on, true)
	default:
		return l.bindAgain(g, p, r, left[:1]), question{}
	}
}

// isClients says whether an address that a generation binds after it was proven is more likely a client's than a server's:
// a resolver takes a random UDP port for each of its questions, and each would be held.
func isClients(spec port.Spec) bool { return spec.Network == "udp" && spec.Addr.Port() >= 1024 }

// bindAgain gives sockets of the generation's own to a program once more, of which that gets the first.
func (l *Loop) bindAgain(g *generation, p *port.Port, r *request, inodes []uint64) verdict {
	fd := p.Again(g.number, inodes[0]).FD()
	if fd < 0 {
		return letGoOn()
	}
	var again []*taken
	for _, inode := range inodes {
		t, known := g.ledger.bound[inode]
		if !known {
			t = &taken{Bound: p.Again(g.number, inode), reusePort: r.options.reusePort, since: l.now()}
		}
		g.ledger.add(inode, t)
		g.ledger.answer(t, r.pid, r.call.FD)
		again = append(again, t)
	}
	unix.SetNonblock(fd, r.info.Nonblock)
	return replacing(fd).then(func() { g.ledger.answered(again...) })
}

// bindNew binds a socket for the generation, or lets the kernel tell the program why that can't be.
func (l *Loop) bindNew(g *generation, p *port.Port, r *request) verdict {
	if l.scarce(p) {
		l.forgetUnused(p)
		return letGoOn()
	}
	if r.owner != nil {
		p.SetOwner(*r.owner)
	}
	var b *port.Bound
	err := r.rights.Do(func() (err error) { // so that the kernel judges it as it would the program's own
		b, err = p.Bind(g.number, port.Own{FD: r.spare, Nonblock: r.info.Nonblock, Options: r.options.others})
		return err
	})
	if err != nil {
		l.log.Debug("an address is not held", "port", r.spec, "generation", g.number, "err", err)
		l.forgetUnused(p)
		return letGoOn()
	}
	g.unbound.forget(r.info.Inode)
	t := &taken{Bound: b, reusePort: r.options.reusePort, since: l.now()}
	g.ledger.add(b.Inode(), t)
	g.ledger.answer(t, r.pid, r.call.FD)
	if b.Listening() {
		l.opened(g, p)
	} else {
		l.opening[p.String()] = p
	}
	if !b.Listening() || r.spec.Network == "udp" {
		l.releaseLater(g, t)
	}
	answered := func() { g.ledger.answered(t) }
	if b.Own() {
		return returning(0).then(answered)
	}
	return replacing(b.FD()).then(answered)
}

// reserved are the descriptors that the holder keeps for itself: without, its probes could not be answered.
const reserved = 32

// scarce says whether a program has taken so many ports that the holder would have too few descriptors left with one more.
// A new port may take from the first half of them only, since the next generation will need as many.
func (l *Loop) scarce(p *port.Port) bool {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return false
	}
	next, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3) // the lowest that is free
	if err == nil {
		unix.Close(next)
	}
	most := limit.Cur / 2
	if p.Held() {
		most = limit.Cur - min(reserved, most)
	}
	if err == nil && uint64(next) < most {
		return false
	}
	if !l.warnedFew {
		l.warnedFew = true
		l.log.Warn("too few descriptors are left: what the child binds from now on is not held; raise the limit on open files", "limit", limit.Cur)
	}
	return true
}

// listen takes the socket that a program has bound into use.
func (l *Loop) listen(g *generation, inode uint64) {
	t, ok := g.ledger.bound[inode]
	if !ok || t.Listening() || l.generations[g.number] != g {
		return
	}
	if err := t.Listen(); err != nil {
		l.log.Error("a port that the generation listens on is not held", "port", t.Port().Spec(), "generation", g.number, "err", err)
		return
	}
	l.opened(g, t.Port())
}

// opened takes note that a generation listens on a port: from now on it is held.
func (l *Loop) opened(g *generation, p *port.Port) {
	delete(l.opening, p.String())
	if !l.isHeld(p) {
		l.hold(p)
		l.log.Info("port held", "port", p.Spec(), "generation", g.number)
		defer l.publishHeld(p) // a further socket on a known port is nothing that a snapshot tells
	}
	if l.machine.Live == g.number && p.Live() != g.number {
		l.turnLate(g, p)
	}
	l.watchIdle(p) // this socket, too
	l.changed()
	if l.machine.Live == g.number && g.executed && !g.mainGone && !g.proven(l) && g.cancelProof == nil {
		l.prove(g) // its proof had ended for want of a port: it has been slow to start
	}
}

// turnLate cuts a port over that the live generation opens only now. Its proof did not wait for it, since the generation
// before had opened it after its own proof, too; so its cutover could not turn this one.
func (l *Loop) turnLate(g *generation, p *port.Port) {
	from := p.Live()
	if err := p.Turn(g.number); err != nil {
		l.log.Error("a port that was opened after the cutover does not turn", "port", p.Spec(), "generation", g.number, "err", err)
		return
	}
	l.log.Info("port opened after the cutover: it is turned now", "port", p.Spec(), "from", from, "generation", g.number)
	l.publish()
}

// portFor returns the held port of that address, or one that is not held yet, for generation n to open.
func (l *Loop) portFor(n int, spec port.Spec) *port.Port {
	key := spec.String()
	if p, ok := l.byAddress[key]; ok {
		return p
	}
	if p, ok := l.opening[key]; ok {
		return p
	}
	p := l.kernel.New(spec, l.o.Log)
	if !l.overlapsOwn(n, spec) {
		p.SetOverlaps(l.overlapping(spec)) // the holder's own other socket is not a stranger's
	}
	return p
}

// forgetUnused closes a port on which nobody listens.
func (l *Loop) forgetUnused(p *port.Port) {
	if l.isHeld(p) || l.opening[p.String()] == p {
		return
	}
	p.Close()
}

// nameless makes a unix socket with a name of the kernel's choice (unix(7), autobind). The caller closes it.
func nameless() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: ""}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind a nameless socket: %w", err)
	}
	return fd, nil
}

// BindV6Only reads what the kernel takes for IPV6_V6ONLY where a program does not set it (ipv6(7)).
func BindV6Only() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/bindv6only")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}
