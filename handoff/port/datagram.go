package port

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxDatagram = 65535           // bytes
	flowIdle    = 5 * time.Second // how long after its last datagram a client's relay still carries answers
	maxFlows    = 1024            // clients at once; the datagrams of more go through without a way back
)

// A flow is a client whose datagrams are relayed. Each has a socket of its own, so that answers find their way back.
type flow struct {
	client unix.Sockaddr
	server *net.UDPConn
	to     netip.AddrPort // where the live generation is, if server is not connected to it
}

// send sends one datagram to the live generation.
func (f *flow) send(payload []byte) error {
	if f.to.IsValid() {
		_, err := f.server.WriteToUDPAddrPort(payload, f.to)
		return err
	}
	_, err := f.server.Write(payload)
	return err
}

// takeOne relays one datagram from s; false if there is none.
func (p *Port) takeOne(s *socket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeOneLocked(s)
}

func (p *Port) takeOneLocked(s *socket) bool {
	if p.buffer == nil {
		p.buffer = make([]byte, maxDatagram)
	}
	n, from, err := unix.Recvfrom(s.fd, p.buffer, unix.MSG_DONTWAIT)
	if err != nil {
		return errors.Is(err, unix.EINTR)
	}
	p.forwardLocked(s, from, p.buffer[:n])
	return true
}

func (p *Port) forward(s *socket, from unix.Sockaddr, payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forwardLocked(s, from, payload)
}

// forwardLocked sends a datagram that was on s to the live generation, through the client's flow.
func (p *Port) forwardLocked(s *socket, from unix.Sockaddr, payload []byte) {
	if s.retired && s.probed[addrPort(from)] {
		return
	}
	s.relayed++
	p.relayed.Add(1)
	f, err := p.flow(from)
	if err == nil {
		err = f.send(payload)
	}
	if err != nil {
		p.log.Warn("straggler lost", "error", err)
	}
	if f != nil && p.flows[addrPort(from)] != f { // one too many to be kept
		_ = f.server.Close()
	}
}

// flow is the way to the live generation and back for one client.
func (p *Port) flow(client unix.Sockaddr) (*flow, error) {
	key := addrPort(client)
	if f := p.flows[key]; f != nil {
		return f, nil
	}
	target := p.addr.Addr()
	if target.IsUnspecified() {
		target = loopback(key.Addr())
	}
	f := &flow{client: client}
	var err error
	if p.heir != nil {
		// Not connected: a server that listens on all addresses may well answer from another than was asked.
		f.to = p.heir.at
		f.server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.to.Addr(), 0)))
	} else {
		f.server, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(target, p.addr.Port())))
	}
	if err != nil {
		return nil, err
	}
	if len(p.flows) < maxFlows && !p.closed {
		p.flows[key] = f
		p.tasks.Go(func() { p.answer(key, f) })
	}
	return f, nil
}

// answer carries the live generation's answers to the client, until there have been none for flowIdle.
func (p *Port) answer(key netip.AddrPort, f *flow) {
	buf := make([]byte, maxDatagram)
	for {
		_ = f.server.SetReadDeadline(time.Now().Add(flowIdle))
		n, err := f.server.Read(buf)
		if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			break
		}
		if err == nil {
			p.sendBack(f.client, buf[:n])
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.flows, key)
	_ = f.server.Close()
}

// sendBack sends from the held address, through the live generation's socket: the client knows no other.
func (p *Port) sendBack(client unix.Sockaddr, payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.first(p.live); s != nil {
		_ = unix.Sendto(s.fd, payload, unix.MSG_DONTWAIT, client)
	}
}
