package port

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxProbes is how many connections of Dial may be open on a port; one more waits. It keeps the program far below the
// length that net.core.optmem_max allows an unprivileged process (20 KiB on old kernels).
const maxProbes = 16

// A probe is a connection that the program sends to a certain socket, whatever is live, known by where it comes from.
// Its port can't be anybody else's while its own socket is bound to it (see bindProbe), so the program must forget it
// before that socket is closed. A net.Dialer may close one by itself, when it fails or begins anew: until it has
// succeeded, the probe holds a duplicate.
type probe struct {
	to   *socket
	from netip.AddrPort
	hold int // the duplicate, -1 = none
}

// let closes the duplicate.
func (pr *probe) let() {
	if pr.hold >= 0 {
		_ = unix.Close(pr.hold)
		pr.hold = -1
	}
}

// probe opens a steered connection to s from the first of sources that this machine has.
func (p *Port) probe(ctx context.Context, s *socket, sources []netip.Addr) (net.Conn, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for one of %d probes to end: %w", maxProbes, context.Cause(ctx))
	}
	conn, err := p.probeAny(ctx, s, sources)
	if err != nil {
		<-p.slots
		return nil, err
	}
	return conn, nil
}

func (p *Port) probeAny(ctx context.Context, s *socket, sources []netip.Addr) (conn net.Conn, err error) {
	err = errNoSource
	for _, source := range sources {
		conn, err = p.probeFrom(ctx, s, source)
		if !noIPv6(err) {
			break
		}
	}
	return conn, err
}

// probeFrom opens a steered connection from source. While the order of the group changes, the program is behind for an
// instant and the probe may go astray: it is then done again.
func (p *Port) probeFrom(ctx context.Context, s *socket, source netip.Addr) (net.Conn, error) {
	pr := &probe{to: s, hold: -1}
	d := net.Dialer{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		return p.aim(pr, raw, source)
	}}
	d.SetMultipathTCP(false)
	for {
		epoch := p.order()
		conn, err := d.DialContext(ctx, p.network(source), p.target(source).String())
		if err == nil && epoch == p.order() {
			pr.let()
			return p.wrap(conn, pr), nil
		}
		p.unaim(pr)
		if err != nil {
			return nil, err
		}
		_ = conn.Close()
	}
}

// maxNoted bounds the probes that a socket's queue may hold for nobody; one that is proven for minutes has had some
// hundred.
const maxNoted = 4096

// note remembers where a probe comes from, if nobody but probes has ever been sent where it goes. p.mu is held.
func (p *Port) note(pr *probe) {
	if pr.to.led || slices.Contains(p.gens[p.live], pr.to) || len(pr.to.probed) >= maxNoted {
		return
	}
	if pr.to.probed == nil {
		pr.to.probed = map[netip.AddrPort]bool{}
	}
	pr.to.probed[pr.from] = true
}

func (p *Port) order() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch
}

// aim binds the probe's own socket and has the program steer what comes from there. It runs before the socket connects.
func (p *Port) aim(pr *probe, raw syscall.RawConn, source netip.Addr) error {
	var err error
	if controlErr := raw.Control(func(fd uintptr) { err = p.aimFD(pr, int(fd), source) }); controlErr != nil {
		return controlErr
	}
	return err
}

func (p *Port) aimFD(pr *probe, fd int, source netip.Addr) error {
	from, err := bindProbe(fd, source, p.kernel.sourcePorts())
	if err != nil {
		return fmt.Errorf("bind a probe to %s: %w", source, err)
	}
	hold, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate a probe: %w", err)
	}
	p.unaim(pr) // when the dialler begins anew
	pr.from, pr.hold = from, hold
	return p.route(pr)
}

// bindAttempts is how often bindProbe has the kernel look for a port; each fails only if somebody takes it at that moment.
const bindAttempts = 100

// bindProbe binds fd to some port of source and returns both. The port is named to bind(2): one that bind chooses itself
// the kernel takes back as soon as the connection has ended on both sides, although the socket is open still
// (SOCK_BINDPORT_LOCK in tcp_set_state, net/ipv4/tcp.c), and somebody else's connection could then come from there.
func bindProbe(fd int, source netip.Addr, ports sourcePorts) (from netip.AddrPort, err error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return from, err
	}
	for _, source := range aliases(source) {
		if from, err = bindSome(fd, kind, source, ports); err != unix.EADDRINUSE {
			break
		}
	}
	return from, err
}

// bindSome guesses first. The kernel tries one port after the other, and where half of them are taken, by connections in
// TIME_WAIT say, each search goes through all of that half: 5 ms of bind(2) (inet_csk_find_open_port, seen on 6.18), for
// each probe.
func bindSome(fd, kind int, source netip.Addr, ports sourcePorts) (from netip.AddrPort, err error) {
	for port := range ports.guesses {
		from = netip.AddrPortFrom(source, port)
		if err = unix.Bind(fd, sockaddr(from)); err != unix.EADDRINUSE {
			return from, err
		}
	}
	for range bindAttempts {
		if from, err = vacant(kind, source); err != nil {
			return from, err
		}
		if err = unix.Bind(fd, sockaddr(from)); err != unix.EADDRINUSE {
			return from, err
		}
	}
	return from, err
}

// aliases are the addresses that can stand for source. A busy client on this machine may have all ports of 127.0.0.1 in
// TIME_WAIT; then another address of the loopback network does.
func aliases(source netip.Addr) []netip.Addr {
	all := []netip.Addr{source}
	if source.Is4() && source.IsLoopback() {
		for last := byte(2); last < 10; last++ {
			all = append(all, netip.AddrFrom4([4]byte{127, 0, 0, last}))
		}
	}
	return all
}

// vacant finds a port of addr that a socket of this kind can be bound to.
func vacant(kind int, addr netip.Addr) (netip.AddrPort, error) {
	none := netip.AddrPortFrom(addr, 0)
	fd, err := unix.Socket(family(none), kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return none, err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sockaddr(none)); err != nil {
		return none, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return none, err
	}
	return netip.AddrPortFrom(addr, addrPort(sa).Port()), nil
}

// route has the program steer a probe.
func (p *Port) route(pr *probe) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr.to.left || p.closed {
		return errShutDown
	}
	p.probes = append(p.probes, pr)
	p.note(pr)
	if err := p.steer(); err != nil && len(p.members) > 1 { // to the only one everything goes anyway
		return fmt.Errorf("steer a probe: %w", err)
	}
	return nil
}

// unaim ends the steering of a probe.
func (p *Port) unaim(pr *probe) {
	defer pr.let()
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.probes, pr)
	if i < 0 {
		return
	}
	p.probes = slices.Delete(p.probes, i, i+1)
	if len(p.members) < 2 || p.shared {
		return
	}
	if err := p.steer(); err != nil {
		p.log.Warn("switch not set after a probe", "error", err)
	}
}

// wrap makes Close end the steering too, first of all: the source port is free for others when the socket is closed.
func (p *Port) wrap(conn net.Conn, pr *probe) net.Conn {
	release := sync.OnceFunc(func() { p.unaim(pr); <-p.slots })
	switch conn := conn.(type) {
	case *net.TCPConn:
		return &tcpProbe{conn, release}
	case *net.UDPConn:
		return &udpProbe{conn, release}
	default:
		return &otherProbe{conn, release}
	}
}

type tcpProbe struct {
	*net.TCPConn
	release func()
}

// Close ends the steering and closes the connection.
func (c *tcpProbe) Close() error {
	c.release()
	return c.TCPConn.Close()
}

type udpProbe struct {
	*net.UDPConn
	release func()
}

// Close ends the steering and closes the socket.
func (c *udpProbe) Close() error {
	c.release()
	return c.UDPConn.Close()
}

type otherProbe struct {
	net.Conn
	release func()
}

// Close ends the steering and closes the connection.
func (c *otherProbe) Close() error {
	c.release()
	return c.Conn.Close()
}
