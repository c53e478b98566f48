package port

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errNotLive  = errors.New("it is not live")
	errNoSource = errors.New("this machine has no address at which only this port is reached, and not one that overlaps it")
)

// Covers says whether all that can be reached at o can be reached at s: they are the same, or s is a wildcard and o one of
// its addresses.
func (s Spec) Covers(o Spec) bool {
	switch {
	case s.Network != o.Network || s.Network == "unix" && s.Path != o.Path || s.Addr.Port() != o.Addr.Port():
		return false
	case s.Network == "unix" || s.DualStack:
		return true
	case o.DualStack:
		return false
	case s.Addr.Addr().IsUnspecified():
		return s.Addr.Addr().Is4() == o.Addr.Addr().Unmap().Is4()
	default:
		return s.Addr == o.Addr
	}
}

// Overlaps says whether some of what can be reached at o can be reached at s, and they are not the same. For the kernel
// they are two groups of sockets then, and it decides between them before any switch does.
func (s Spec) Overlaps(o Spec) bool {
	return (s.Covers(o) || o.Covers(s)) && s.String() != o.String() // the dear comparison last: every port asks this of every other
}

// SetOverlaps tells p which other held ports overlap it. Its probes keep away from addresses at which the kernel would
// lead them to one of those.
func (p *Port) SetOverlaps(others []Spec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.others = slices.Clone(others)
}

// Overlapped says whether SetOverlaps has told of any.
func (p *Port) Overlapped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.others) > 0
}

// elsewhere says whether the kernel leads what is sent to addr to another held port. It takes the more specific one, and
// IPv4 before a dual-stack one (compute_score in net/ipv4/inet_hashtables.c). Between IPv6 alone and dual-stack the older
// one wins. p.mu is held.
func (p *Port) elsewhere(addr netip.Addr) bool {
	at := Spec{Network: p.spec.Network, Addr: netip.AddrPortFrom(addr, p.spec.Addr.Port())}
	return slices.ContainsFunc(p.others, func(o Spec) bool { return o.Covers(at) && precedence(o) >= precedence(p.spec) })
}

func precedence(s Spec) int {
	switch {
	case !s.Addr.Addr().IsUnspecified():
		return 2
	case s.Addr.Addr().Is4():
		return 1
	default:
		return 0
	}
}

// Yield is the cutover where the new live generation listens on another port, heir, that covers this one. No switch leads
// from one to the other, so gen's sockets are hidden from the kernel: new connections reach heir from now on, those that
// are queued stay where they are, for gen to accept. What gen leaves is relayed to heir, by Relay and Retire. It can't be
// turned back.
//
// UDP goes on reaching gen, since a hidden socket can't answer: its datagrams are relayed from Relay on. So do connections
// where the kernel does not hide sockets (before Linux 5.7, as an unprivileged user); the error says so then.
func (p *Port) Yield(gen int, heir *Port) error {
	at, reached := heir.apart()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return fmt.Errorf("yield %s to %s: %w", p.spec, heir.spec, errClosed)
	case gen != p.live || len(p.gens[gen]) == 0:
		return fmt.Errorf("yield %s to %s: generation %d: %w", p.spec, heir.spec, gen, errNotLive)
	}
	if p.spec.Network == "tcp" && p.hideAll() {
		p.heir, p.turned = &inheritance{spec: heir.spec}, time.Now()
		p.dissolve()
		return nil
	}
	if !reached {
		return fmt.Errorf("yield %s to %s: %w", p.spec, heir.spec, errNoSource)
	}
	p.heir = &inheritance{heir.spec, at}
	return nil
}

// An inheritance is where a port has been given up to.
type inheritance struct {
	spec Spec
	at   netip.AddrPort // what is relayed goes there; zero = to where its client wanted it, since this port is hidden
}

// unled says whether no socket of this port is to be seen by the kernel, so that the next one is the first again.
// p.mu is held.
func (p *Port) unled() bool { return p.live == 0 || p.heir != nil && !p.heir.at.IsValid() }

// hideAll hides the whole group: one member that is seen is enough for the program to lead to the others. It says whether
// it could. p.mu is held.
func (p *Port) hideAll() bool {
	for _, m := range p.members {
		if err := hide(m.fd); err != nil {
			p.log.Warn("what comes for a port that was given up is relayed: this kernel leads it to the old generation still", "err", err)
			return false
		}
	}
	return true
}

// dissolve forgets a group that is hidden: no socket will join it again. Those of nobody go at once. p.mu is held.
func (p *Port) dissolve() {
	var out []*socket
	for _, m := range p.members {
		if m.retired {
			p.end(m)
			out = append(out, m)
		}
	}
	p.members = nil
	p.epoch++
	p.later(out)
	p.rewatch()
}

// end takes a listener that is in no group out of use, relaying what is still queued on it. p.mu is held.
func (p *Port) end(s *socket) {
	p.drainLocked(s)
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.left = true
}

// apart is an address at which p is reached, and none that overlaps it.
func (p *Port) apart() (netip.AddrPort, bool) {
	for _, source := range p.sources() {
		if _, err := vacant(kind(p.spec), source); err == nil { // it may be of a family that this machine lacks
			return p.target(source), true
		}
	}
	return netip.AddrPort{}, false
}

// heirsAddress is where a straggler for addr is relayed to. p.mu is held.
func (p *Port) heirsAddress(addr netip.AddrPort) netip.AddrPort {
	if p.heir != nil && p.heir.at.IsValid() {
		return p.heir.at
	}
	return addr
}

// Yielded is to what port Yield has given this one up, if it has.
func (p *Port) Yielded() (to Spec, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heir == nil {
		return Spec{}, false
	}
	return p.heir.spec, true
}

// Finish is Close for a port on which no generation has a socket any more: it waits for the stragglers that are being
// relayed to end first, for as long as their connections last.
func (p *Port) Finish() error {
	p.relays.Wait()
	return p.Close()
}
