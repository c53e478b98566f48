package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How long a straggler waits for the live generation to take its connection, and how often that is tried.
const (
	relayTimeout = 10 * time.Second
	relayRetry   = 20 * time.Millisecond
)

// errorPause is how long a relay waits after a failed accept, e.g. for want of descriptors.
const errorPause = 50 * time.Millisecond

// Relay has the holder accept what is queued for generation gen, and what still arrives there, and relay it to the live
// generation, until Retire. It returns at once. It is meant for a generation that no longer accepts, or is about to stop;
// should gen still accept, each connection goes to one of them. A client sees no difference; the live generation sees
// the connection come from this machine's own address. To turn the switch to gen ends it.
//
// Where gen has the live generation's socket, there is nothing to relay.
func (p *Port) Relay(gen int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(p.gens[gen]) == 0:
		return fmt.Errorf("relay generation %d of %s: %w", gen, p.spec, errNoSocket)
	case gen == p.live && p.heir == nil:
		return fmt.Errorf("relay generation %d of %s: %w", gen, p.spec, errLive)
	}
	for _, s := range p.gens[gen] {
		s.relaying = s.users == 1
	}
	p.later(p.sweep())
	p.rewatch()
	return nil
}

// help starts a goroutine that takes all that waits on s. p.mu is held.
func (p *Port) help(s *socket) {
	s.busy = true
	s.helpers.Add(1)
	p.tasks.Go(func() {
		defer s.helpers.Done()
		pause := p.drain(s)
		p.rest(pause)
		p.mu.Lock()
		defer p.mu.Unlock()
		s.busy = false
		if p.closed {
			return
		}
		if p.watch != nil && s.watched != 0 {
			p.watch.set(s, p.wanted(s)) // arms it again
		}
		p.rewatch()
	})
}

// rest waits for d or the end of the port.
func (p *Port) rest(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	}
}

// drain takes what waits on s. The listener may be a blocking one, and the generation may take the connection that was
// seen waiting: then the accept stays in the kernel until there is another, which is as well relayed, or until Retire
// shuts the listener down. It returns how long to pause before the next attempt.
func (p *Port) drain(s *socket) time.Duration {
	for p.mayTake(s) {
		if p.spec.Network == "udp" {
			if !p.takeOne(s) {
				return 0
			}
			continue
		}
		switch conn, err := accept(s.fd); {
		case err == nil:
			p.straggle(s, conn)
		case errors.Is(err, unix.EAGAIN): // taken by another
			return 0
		case errors.Is(err, unix.EINVAL):
			p.hungUp(s)
			return 0
		default: // for want of descriptors, say
			p.log.Warn("straggler not accepted", "error", err)
			return errorPause
		}
	}
	return 0
}

// mayTake says whether something waits on s and is the holder's to take.
func (p *Port) mayTake(s *socket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.relaying || s.left || !p.somebodyListens() || !waiting(s.fd) {
		return false
	}
	if p.spec.Network == "tcp" {
		length, _ := acceptQueue(s.fd)
		return length > 0
	}
	return true
}

// hungUp notes that a listener has been shut down. For TCP the watch does so, since the order of the group depends on it.
func (p *Port) hungUp(s *socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spec.Network == "unix" {
		s.left = true
	}
}

// drainLocked takes what waits on a socket that no process uses any more. p.mu is held, so it must not be long: what
// there was has been taken already.
func (p *Port) drainLocked(s *socket) {
	if !p.canRelay(s) {
		return
	}
	for waiting(s.fd) {
		if p.spec.Network == "udp" {
			if !p.takeOneLocked(s) {
				return
			}
			continue
		}
		conn, err := accept(s.fd)
		if err != nil {
			return
		}
		p.straggleLocked(s, conn)
	}
}

// canRelay says whether somebody else is there to take what s has.
func (p *Port) canRelay(s *socket) bool {
	return p.somebodyListens() && (p.first(p.live) != s || p.heir != nil) && !p.closed
}

// straggle relays conn, which came from s, in the background, and owns it from now on.
func (p *Port) straggle(s *socket, conn int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.straggleLocked(s, conn)
}

func (p *Port) straggleLocked(s *socket, conn int) {
	if p.closed || s.retired && s.probed[peer(conn)] {
		_ = unix.Close(conn)
		return
	}
	s.relayed++
	p.relayed.Add(1)
	p.relays.Add(1)
	p.tasks.Go(func() {
		defer p.relays.Done()
		if err := p.relay(conn); err != nil && p.ctx.Err() == nil {
			p.log.Warn("straggler lost", "error", err)
		}
	})
}

// relay connects conn to the live generation and copies both ways until both sides have ended.
func (p *Port) relay(conn int) error {
	file := os.NewFile(uintptr(conn), "straggler")
	client, err := net.FileConn(file) // a duplicate; the description is the holder's alone
	_ = file.Close()
	if err != nil {
		return fmt.Errorf("take straggler: %w", err)
	}
	defer client.Close()
	defer context.AfterFunc(p.ctx, func() { _ = client.Close() })()
	server, err := p.redial(client.LocalAddr())
	if err != nil {
		reset(client)
		return fmt.Errorf("connect straggler to the live generation: %w", err)
	}
	defer server.Close()
	defer context.AfterFunc(p.ctx, func() { _ = server.Close() })()
	splice(client, server)
	return nil
}

// redial connects to the address that a straggler had dialled: the switch leads there to the live generation. Where the
// port has been given up, it is an address at which only the heir is reached. A refusal
// is not final, as the live generation may be about to be replaced.
func (p *Port) redial(local net.Addr) (net.Conn, error) {
	addr := p.Path()
	if tcp, ok := local.(*net.TCPAddr); ok {
		dialled := tcp.AddrPort()
		p.mu.Lock()
		addr = p.heirsAddress(netip.AddrPortFrom(dialled.Addr().Unmap(), dialled.Port())).String()
		p.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(p.ctx, relayTimeout)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, p.spec.Network, addr)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		p.rest(relayRetry)
	}
}

// splice copies both ways, passing on the end of each direction, and a reset as a reset: a client must not take half an
// answer for a whole one.
func splice(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyHalf(a, b)
	}()
	copyHalf(b, a)
	<-done
}

func copyHalf(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// reset closes conn in a way that its peer sees.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
