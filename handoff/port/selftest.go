package port

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// firstProbes is how many probes test the switch when a socket joins another for the first time: a kernel that ignores the
// program hashes each to the right socket with a chance of one half. That much is the same for all ports of a kind. What is
// a port's own, a stranger in its group say or a firewall, a single one shows, with each socket anew. Each takes some 50 µs.
const firstProbes = 8

// testTimeout bounds the test. It is reached only where steering fails.
const testTimeout = 2 * time.Second

// selfTest proves that what is steered to s arrives there. Nobody but the holder knows of s yet.
func (p *Port) selfTest(s *socket) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.testTimeout)
	defer cancel()
	p.mu.Lock()
	kind := steering{p.spec.Network, !p.addr.Addr().Is4()}
	p.mu.Unlock()
	probes := firstProbes
	if p.kernel.seenSteering(kind) {
		probes = 1
	}
	for range probes {
		if err := p.testOnce(ctx, s); err != nil {
			return fmt.Errorf("test the switch: %w: %w", errNotSteered, err)
		}
	}
	p.kernel.sawSteering(kind)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verified = true
	return nil
}

func (p *Port) testOnce(ctx context.Context, s *socket) error {
	conn, err := p.probe(ctx, s, p.sources())
	if err != nil {
		return err
	}
	defer conn.Close()
	if p.spec.Network == "udp" {
		if _, err := p.deliver(conn); err != nil && !errors.Is(err, errUnmarked) { // whether it has been shows below
			return err
		}
	} else if c, ok := conn.(interface{ CloseWrite() error }); ok {
		// A silent connection does not get through where the program has set TCP_DEFER_ACCEPT before it listens, as uWSGI
		// and unicorn do. Whether this one does shows below.
		_ = c.CloseWrite()
	}
	return p.arrival(ctx, s, conn.LocalAddr().String())
}

// arrival waits until what came from the address from is on s and takes it away. Others that got there, through a switch
// that does not work, are relayed.
func (p *Port) arrival(ctx context.Context, s *socket, from string) error {
	want, err := netip.ParseAddrPort(from)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	for {
		if !arrived(s.fd, time.Until(deadline)) {
			return fmt.Errorf("nothing arrived from %s", from)
		}
		got, err := p.take(s, want)
		if err != nil || got {
			return err
		}
	}
}

// arrived waits for something to take from fd. It holds a thread meanwhile, which on a kernel that steers is for no time
// at all.
func arrived(fd int, timeout time.Duration) bool {
	for end := time.Now().Add(timeout); ; {
		left := max(time.Until(end).Milliseconds(), 0) // too late to wait, but not to look
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(left)+1)
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
}

// take takes one arrival from s and says whether it came from want.
func (p *Port) take(s *socket, want netip.AddrPort) (bool, error) {
	if p.spec.Network == "udp" {
		return p.takeDatagram(s, want)
	}
	fd, sa, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return false, err
	}
	if addrPort(sa) == netip.AddrPortFrom(want.Addr().WithZone("").Unmap(), want.Port()) {
		// With a reset, so that nothing of it stays in TIME_WAIT: with a thousand ports that would be a large part of all the
		// ports that there are to connect from, for a minute.
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		return true, unix.Close(fd)
	}
	p.straggle(s, fd)
	return false, nil
}

func (p *Port) takeDatagram(s *socket, want netip.AddrPort) (bool, error) {
	buf := make([]byte, maxDatagram)
	n, sa, err := unix.Recvfrom(s.fd, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return false, err
	}
	if addrPort(sa) == netip.AddrPortFrom(want.Addr().WithZone("").Unmap(), want.Port()) {
		return true, nil
	}
	p.forward(s, sa, buf[:n])
	return false, nil
}
