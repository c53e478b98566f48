package port

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Own is what the socket that the program tries to bind is like.
type Own struct {
	// FD is a duplicate of it, so that it can be bound in its own place; -1 = there is none, and another takes its place.
	FD       int
	Nonblock bool     // its O_NONBLOCK, which one in its place has on a description of its own
	Options  []Option // what was set on it, for one in its place
}

// Bind makes a socket for generation gen that is bound to the port. A generation may bind several; connections are then
// spread over those that listen. UDP and unix sockets are complete at once, and so is the socket that all generations
// share where the kernel does not steer. own.FD stays the caller's, who may close it at once; after an error the socket is
// as it was.
func (p *Port) Bind(gen int, own Own) (*Bound, error) {
	b, err := p.bind(gen, own)
	if err != nil {
		return nil, fmt.Errorf("bind %s for generation %d: %w", p.spec, gen, err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(b.fd, &stat); err != nil {
		b.Release()
		return nil, fmt.Errorf("bind %s for generation %d: %w", p.spec, gen, err)
	}
	b.inode = stat.Ino
	if !b.own && own.Nonblock != p.spec.Nonblock && p.Kind() != Shared {
		// Nobody else has the description yet.
		if err := unix.SetNonblock(b.fd, own.Nonblock); err != nil {
			b.Release()
			return nil, fmt.Errorf("bind %s for generation %d: %w", p.spec, gen, err)
		}
	}
	return b, nil
}

func (p *Port) bind(gen int, own Own) (*Bound, error) {
	p.slow.Lock()
	defer p.slow.Unlock()
	p.mu.Lock()
	live, unled, shared, verified, closed := p.live, p.unled(), p.shared, p.verified, p.closed
	p.mu.Unlock()
	switch {
	case closed:
		return nil, errClosed
	case p.spec.Network == "unix":
		return p.bindPath(gen, live, own)
	case p.spec.Network == "udp":
		return p.bindDatagram(gen, live, own)
	case unled && gen == live: // it has given the port up: one more socket would take it back
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.boundTo(gen, p.gens[gen][0], false), nil
	case unled:
		return p.bindFirst(gen, own)
	case !shared && !verified:
		p.verify()
	}
	if p.Kind() == Shared {
		return p.bindShared(live, gen)
	}
	fd, err := p.make(own, p.address())
	if err != nil {
		return nil, err
	}
	return &Bound{p: p, gen: gen, fd: fd, own: own.FD >= 0}, nil
}

// bindShared gives generation gen the socket that all have.
func (p *Port) bindShared(live, gen int) (*Bound, error) {
	if err := p.shareOnce(live, gen); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.boundTo(gen, p.gens[gen][0], false), nil
}

func (p *Port) address() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// make binds the program's own socket, or one in its place, to addr. The descriptor is a new one in either case.
func (p *Port) make(own Own, addr netip.AddrPort) (fd int, err error) {
	if own.FD >= 0 {
		if fd, err = unix.FcntlInt(uintptr(own.FD), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return -1, fmt.Errorf("duplicate socket: %w", err)
		}
		err = bindOwn(fd, p.spec, addr)
	} else {
		if fd, err = unix.Socket(family(addr), kind(p.spec), 0); err != nil {
			return -1, fmt.Errorf("create socket: %w", err)
		}
		p.apply(fd, own.Options)
		if p.spec.Network == "udp" {
			// Programs that need it set it before their bind, and it harms none: it only permits (socket(7)).
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
		}
		err = prepare(fd, p.spec, addr, groupOptions(p.spec))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// bindOwn binds a program's own socket. After an error it has the options again that it had before.
func bindOwn(fd int, spec Spec, addr netip.AddrPort) error {
	options := []OptionName{{unix.SOL_SOCKET, unix.SO_REUSEPORT}, {unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}}
	before := map[OptionName]int{}
	for _, o := range options {
		if v, err := unix.GetsockoptInt(fd, o.Level, o.Name); err == nil {
			before[o] = v
		}
	}
	err := prepare(fd, spec, addr, groupOptions(spec))
	if err != nil {
		for o, v := range before {
			_ = unix.SetsockoptInt(fd, o.Level, o.Name, v)
		}
	}
	return err
}

// bindDatagram binds a UDP socket, which joins its group at once and is complete. p.slow is held.
func (p *Port) bindDatagram(gen, live int, own Own) (*Bound, error) {
	if live == 0 {
		if _, err := p.resolve(); err != nil {
			return nil, err
		}
		s, err := p.joinDatagram(own)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.gens[gen], p.live = append(p.gens[gen], s), gen
		if err := p.steer(); err != nil {
			p.fallBack(err)
		}
		return p.boundTo(gen, s, own.FD >= 0), nil
	}
	if p.Kind() == Shared {
		return p.bindShared(live, gen)
	}
	s, err := p.bindMember(gen, own)
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.boundTo(gen, s, own.FD >= 0), nil
	}
	if _, has := p.FD(gen); has || !unsteerable(err) {
		return nil, err
	}
	p.mu.Lock()
	p.fallBack(err)
	p.mu.Unlock()
	return p.bindShared(live, gen)
}

// bindMember is openMember for a socket that the program binds.
func (p *Port) bindMember(gen int, own Own) (*socket, error) {
	p.mu.Lock()
	err := p.steer()
	p.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("attach program: %w: %w", errNotSteered, err)
	}
	s, err := p.joinDatagram(own)
	if err != nil {
		return nil, err
	}
	if err := p.selfTest(s); err != nil {
		p.discard(s)
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gens[gen] = append(p.gens[gen], s)
	p.later(p.sweep())
	p.rewatch()
	if gen == p.live {
		return s, p.steer()
	}
	return s, nil
}

// joinDatagram makes a UDP socket, which its bind(2) makes the last of the group.
func (p *Port) joinDatagram(own Own) (*socket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fd, err := p.make(own, p.addr)
	if err != nil {
		return nil, err
	}
	s := p.newSocket(fd)
	p.join(s)
	return s, nil
}

// bindPath binds a unix socket, which is complete at once. p.slow is held.
func (p *Port) bindPath(gen, live int, own Own) (*Bound, error) {
	p.mu.Lock()
	s := p.first(gen)
	p.mu.Unlock()
	switch {
	case s != nil: // there can be only one
		own.FD = -1
	case p.Kind() == Shared && live != 0:
		return p.bindShared(live, gen)
	default:
		if err := p.openUnix(gen, live, own); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.gens[gen]
	s = all[len(all)-1]
	if s.file != nil && gen != p.live {
		// The program may have unlinked the path before its bind. Clients must find the live generation there.
		if err := p.heal(); err != nil {
			return nil, err
		}
		s.file.like(p.path)
	}
	return p.boundTo(gen, s, own.FD >= 0), nil
}

func (p *Port) boundTo(gen int, s *socket, own bool) *Bound {
	return &Bound{p: p, gen: gen, fd: s.fd, listening: true, own: own}
}

// bindFirst binds the port itself. It is held from the first listen on.
func (p *Port) bindFirst(gen int, own Own) (*Bound, error) {
	if _, err := p.resolve(); err != nil {
		return nil, err
	}
	fd, err := p.make(own, p.address())
	if err != nil {
		return nil, err
	}
	return &Bound{p: p, gen: gen, fd: fd, own: own.FD >= 0}, nil
}

// verify finds out with a socket of nobody's whether this kernel steers, before a program gets one that depends on it.
// p.slow is held.
func (p *Port) verify() {
	p.mu.Lock()
	err := p.steer()
	p.mu.Unlock()
	if err == nil {
		var s *socket
		if s, err = p.member(); err == nil {
			err = p.selfTest(s)
			p.discard(s)
		}
	}
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fallBack(err)
}

func (p *Port) shareOnce(from, gen int) error {
	if _, has := p.FD(gen); has {
		return nil
	}
	return p.share(from, gen)
}

// An Owner is who a program's own unix socket would have belonged to, and with which permissions.
type Owner struct {
	UID, GID int // -1 = not known
	Umask    uint32
	// Do, if not nil, does what there is to do with the socket's names as the program could have: its directory may be one
	// in which it puts other files, and links to other people's, in the place of those that are looked for.
	Do func(func() error) error
}

// as does f with the owner's rights.
func (o *Owner) as(f func() error) error {
	if o == nil || o.Do == nil {
		return f()
	}
	return o.Do(f)
}

// SetOwner has the sockets of a unix port that are made from now on belong to o, as far as this process may give them
// away.
func (p *Port) SetOwner(o Owner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owner = &o
}

// Inodes names the sockets that generation gen has on this port.
func (p *Port) Inodes(gen int) []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var inodes []uint64
	for _, s := range p.gens[gen] {
		if inode := s.inode(); inode != 0 {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// Held says whether any generation has a socket on this port.
func (p *Port) Held() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.gens) > 0
}

// Again is generation gen's socket of that inode as a Bound: it was given one at its start, and now binds it.
func (p *Port) Again(gen int, inode uint64) *Bound {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.gens[gen] {
		if s.inode() == inode {
			b := p.boundTo(gen, s, false)
			b.inode = inode
			return b
		}
	}
	return &Bound{p: p, gen: gen, fd: -1, listening: true}
}
