package port

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Open makes a fresh socket for generation gen, which must not have one yet. If none is live, gen is live at once, since
// nobody else could serve; otherwise not one connection reaches the new socket until Turn, except those of Dial.
//
// The first Open fails with an error that is unix.EADDRINUSE, unix.EACCES, unix.EADDRNOTAVAIL and so on, also when whoever
// has the address set SO_REUSEPORT. Later ones, before they return, try whether the kernel steers; if it doesn't, all
// generations get the one socket from then on (see Shared), and one warning is logged.
func (p *Port) Open(gen int) error {
	p.slow.Lock()
	defer p.slow.Unlock()
	if err := p.mayOpen(gen); err != nil {
		return fmt.Errorf("open %s for generation %d: %w", p.spec, gen, err)
	}
	if err := p.open(gen); err != nil {
		return fmt.Errorf("open %s for generation %d: %w", p.spec, gen, err)
	}
	return nil
}

// OpenMore makes one more socket for generation gen, for a server that binds one for each of its workers; connections to
// the generation are then spread over all of them. The descriptor is as that of FD. Where there can be only one (unix
// sockets, a kernel that does not steer) it is the generation's first.
func (p *Port) OpenMore(gen int) (fd int, err error) {
	p.slow.Lock()
	defer p.slow.Unlock()
	p.mu.Lock()
	first, kind := p.first(gen), p.kind()
	p.mu.Unlock()
	switch {
	case first == nil:
		return -1, fmt.Errorf("open %s once more for generation %d: %w", p.spec, gen, errNoSocket)
	case kind != Reuseport:
		return first.fd, nil
	}
	s, err := p.openMember(gen)
	if err != nil {
		return -1, fmt.Errorf("open %s once more for generation %d: %w", p.spec, gen, err)
	}
	return s.fd, nil
}

func (p *Port) mayOpen(gen int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errClosed
	case len(p.gens[gen]) > 0:
		return errHasSocket
	default:
		return nil
	}
}

func (p *Port) open(gen int) error {
	p.mu.Lock()
	live, unled, shared := p.live, p.unled(), p.shared
	p.mu.Unlock()
	switch {
	case shared && live != 0:
		return p.share(live, gen)
	case p.spec.Network == "unix":
		return p.openUnix(gen, live, Own{FD: -1})
	case unled:
		return p.openFirst(gen)
	default:
		return p.openNext(gen, live)
	}
}

// openFirst opens the port itself.
func (p *Port) openFirst(gen int) error {
	s, err := p.openAlone()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gens[gen], p.live, p.heir = []*socket{s}, gen, nil
	// From now on the group obeys the switch, before anybody else can join it.
	if err := p.steer(); err != nil {
		p.fallBack(err)
	}
	return nil
}

// openAlone makes the first socket of the group and decides which address a dual-stack port really has.
func (p *Port) openAlone() (*socket, error) {
	if _, err := p.resolve(); err != nil {
		return nil, err
	}
	s, err := p.member()
	if errors.Is(err, unix.ENOPROTOOPT) { // no SO_REUSEPORT at all: the program will be refused too
		return p.member(unix.SO_REUSEADDR)
	}
	return s, err
}

// resolve decides which address a dual-stack port really has, and finds out whether somebody else is there.
func (p *Port) resolve() (netip.AddrPort, error) {
	p.mu.Lock()
	addr, overlap := p.spec.Addr, p.overlap || len(p.others) > 0
	p.mu.Unlock()
	if p.spec.DualStack {
		// Not trial's error, which could be that of a stranger.
		if fd, err := bound(Spec{Network: p.spec.Network, DualStack: true}, netip.AddrPortFrom(addr.Addr(), 0)); err == nil {
			_ = unix.Close(fd)
		} else if noIPv6(err) {
			addr = netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port())
		}
	}
	if !overlap {
		if err := trial(p.spec, addr); err != nil {
			return addr, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr = addr
	return addr, nil
}

// openNext opens a socket for a generation that is not live.
func (p *Port) openNext(gen, live int) error {
	_, err := p.openMember(gen)
	if err == nil || !unsteerable(err) {
		return err
	}
	p.mu.Lock()
	p.fallBack(err)
	p.mu.Unlock()
	return p.share(live, gen)
}

// unsteerable says whether an address that is held already could not be opened once more because of what the kernel or
// the process's rights are, and not for a lack of descriptors or memory.
func unsteerable(err error) bool {
	for _, errno := range []error{unix.EADDRINUSE, unix.EACCES, unix.EPERM, unix.ENOPROTOOPT, unix.EINVAL, unix.EOPNOTSUPP, errNotSteered} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// openMember adds a socket to the group and to generation gen, and before that proves that the switch leads only what it
// should there.
func (p *Port) openMember(gen int) (*socket, error) {
	p.mu.Lock()
	err := p.steer() // before the join: the program that the group has must not be somebody else's
	p.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("attach program: %w: %w", errNotSteered, err)
	}
	s, err := p.member()
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
	p.later(p.sweep()) // the live generation's socket may have become another than the last
	p.rewatch()
	if gen == p.live {
		return s, p.steer()
	}
	return s, nil
}

// member makes a socket and lets it join the group. options replace groupOptions.
func (p *Port) member(options ...int) (*socket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.memberLocked(options...)
}

func (p *Port) memberLocked(options ...int) (*socket, error) {
	if len(options) == 0 {
		options = groupOptions(p.spec)
	}
	fd, err := bound(p.spec, p.addr, options...)
	if err != nil {
		return nil, err
	}
	if p.spec.Network == "tcp" {
		if err := p.listenInOrder(fd); err != nil {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("listen on %s: %w", p.spec, err)
		}
	}
	s := p.newSocket(fd)
	p.join(s)
	return s, nil
}

// listenInOrder has fd listen, which makes it the last of the group, when it is certain who the others are.
func (p *Port) listenInOrder(fd int) error {
	for {
		p.notice()
		if err := unix.Listen(fd, p.spec.backlog()); err != nil {
			return err
		}
		if !p.notice() {
			return nil
		}
		// Somebody left just now: before this one joined, or after? Once it has left again the order is the same either way. It
		// ends since each turn has one listener less.
		if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
			return err
		}
	}
}

// newSocket takes fd over.
func (p *Port) newSocket(fd int) *socket {
	p.lastID++
	return &socket{id: p.lastID, fd: fd, users: 1}
}

// discard takes a socket back that no generation has.
func (p *Port) discard(s *socket) {
	p.mu.Lock()
	p.expel(s)
	p.mu.Unlock()
	p.dispose(s)
}

// fallBack gives the switch up. p.mu is held.
func (p *Port) fallBack(why error) {
	if p.shared {
		return
	}
	p.shared = true
	p.log.Warn("the switch does not work here: all generations share one socket. "+
		"A new generation can't be proven alone before the cutover, an old one goes on accepting until it stops by itself, "+
		"and what it accepts last is lost if it does not shut down gracefully", "error", why)
}

// share gives generation gen the sockets of generation from.
func (p *Port) share(from, gen int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.gens[from]) == 0 {
		return errNoSocket
	}
	p.shareLocked(from, gen)
	return nil
}

func (p *Port) shareLocked(from, gen int) {
	p.gens[gen] = slices.Clone(p.gens[from])
	for _, s := range p.gens[gen] {
		s.users++
	}
}
