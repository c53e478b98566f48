package port

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Dial opens a connection that only generation gen can receive, while every other goes on to the live one. For UDP the
// same holds for every datagram sent on it. Where all generations share a socket, it is a connection like any other. The
// caller closes it; at most 16 are open on a port at once, one more waits for one of them or for ctx to end.
func (p *Port) Dial(ctx context.Context, gen int) (net.Conn, error) {
	conn, err := p.dial(ctx, gen, p.sources())
	if err != nil {
		return nil, fmt.Errorf("dial generation %d on %s: %w", gen, p.spec, err)
	}
	return conn, nil
}

func (p *Port) dial(ctx context.Context, gen int, sources []netip.Addr) (net.Conn, error) {
	p.mu.Lock()
	s := p.first(gen)
	p.mu.Unlock()
	if s == nil {
		return nil, errNoSocket
	}
	return p.dialSocket(ctx, s, sources)
}

// dialSocket is dial for one of a generation's sockets.
func (p *Port) dialSocket(ctx context.Context, s *socket, sources []netip.Addr) (net.Conn, error) {
	p.mu.Lock()
	shared, left := p.shared, s.left || s.fd < 0
	p.mu.Unlock()
	switch {
	case left:
		return nil, errShutDown
	case p.spec.Network == "unix":
		return p.dialUnix(ctx, s)
	case shared:
		return p.dialPlain(ctx, sources)
	default:
		return p.probe(ctx, s, sources)
	}
}

// dialUnix connects to a generation's own name.
func (p *Port) dialUnix(ctx context.Context, s *socket) (conn net.Conn, err error) {
	p.mu.Lock()
	name := s.file.name
	if name == "" || !exists(name) && s.file.current() {
		// A program may have removed the name by which getsockname(2) knows its socket, as Knot does at its end. With the
		// sequential strategy the next generation has that socket, and the port's path leads to it.
		name = p.path
	}
	p.mu.Unlock()
	var d net.Dialer
	err = withAddress(name, func(addr string) error {
		conn, err = d.DialContext(ctx, "unix", addr)
		return err
	})
	return conn, err
}

// dialPlain connects as any client would.
func (p *Port) dialPlain(ctx context.Context, sources []netip.Addr) (conn net.Conn, err error) {
	err = errNoSource
	for _, source := range sources {
		d := net.Dialer{KeepAlive: -1}
		if conn, err = d.DialContext(ctx, p.network(source), p.target(source).String()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// sources are the addresses that a probe may come from, best first: the port's own, if it has a specific one, else the
// loopback of its family, for a dual-stack one both. Where another held port has one of them, it is left out; for IPv4
// there are others on the loopback.
func (p *Port) sources() []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	addr := p.addr.Addr()
	var all []netip.Addr
	switch {
	case !addr.IsUnspecified():
		return []netip.Addr{addr.Unmap()} // what comes to an IPv4 address in IPv6 form comes as IPv4
	case p.spec.DualStack && addr.Is6():
		all = append(aliases(netip.IPv6Loopback()), aliases(loopback(netip.IPv4Unspecified()))...)
	default:
		all = aliases(loopback(addr))
	}
	all = slices.DeleteFunc(all, p.elsewhere)
	if len(p.others) == 0 { // the first of each family is as good as any
		all = slices.DeleteFunc(all, func(a netip.Addr) bool { return a != loopback(a) })
	}
	return all
}

// target is where a probe from source connects to: the same address, since a wildcard listens there too.
func (p *Port) target(source netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(source, p.spec.Addr.Port())
}

func (p *Port) network(source netip.Addr) string {
	if source.Is4() {
		return p.spec.Network + "4"
	}
	return p.spec.Network + "6"
}

func exists(name string) bool {
	var stat unix.Stat_t
	return unix.Lstat(name, &stat) == nil
}
