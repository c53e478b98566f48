package port

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// proveRead sends a datagram of length zero and waits until it has been read from s.
func (p *Port) proveRead(ctx context.Context, s *socket, conn net.Conn) (seen string, err error) {
	if seen, err := p.deliver(conn); err != nil {
		return seen, err
	}
	looks := pace{next: firstLook}
	for {
		answered, err := answered(conn)
		switch {
		case err != nil:
			return plainly(err), err
		case answered || !p.pendingOn(s):
			return "read", nil
		}
		if err := looks.wait(ctx); err != nil {
			return "queued, not read", err
		}
	}
}

// deliver has a datagram of length zero delivered where conn is steered to. While the order of the group changes it may go
// astray, as a connection may (probeFrom), and what is not on s would be taken for read: another one is sent then.
func (p *Port) deliver(conn net.Conn) (seen string, err error) {
	for {
		epoch := p.order()
		if _, err := conn.Write(nil); err != nil {
			return plainly(err), err
		}
		err := overtaken(conn)
		if epoch != p.order() {
			continue
		}
		if err != nil {
			return "not delivered", err
		}
		return "", nil
	}
}

// overtakenTimeout bounds the wait for a datagram over loopback.
const overtakenTimeout = time.Second

// overtaken waits until what was just sent on conn has been delivered: a datagram that is sent after it, to another
// socket of this machine, comes through the same queue of the loopback device and can't arrive before it. (An empty
// receive queue would otherwise be no proof: the datagram might not have got there yet.)
func overtaken(conn net.Conn) error {
	local := conn.LocalAddr().(*net.UDPAddr)
	marker, err := net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone})
	if err != nil {
		return fmt.Errorf("%w: make a marker: %w", errUnmarked, err)
	}
	defer marker.Close()
	if err := marker.SetDeadline(time.Now().Add(overtakenTimeout)); err != nil {
		return fmt.Errorf("%w: make a marker: %w", errUnmarked, err)
	}
	if _, err := marker.WriteTo([]byte{0}, marker.LocalAddr()); err != nil {
		return fmt.Errorf("%w: send a marker: %w", errUnmarked, err)
	}
	if _, _, err := marker.ReadFrom(make([]byte, 1)); err != nil {
		return fmt.Errorf("%w: wait for a marker: %w", errUnmarked, err)
	}
	return nil
}

// answered says whether the server has sent something, or why nothing can get there.
func answered(conn net.Conn) (bool, error) {
	o, err := observe(conn, "udp")
	if err == nil {
		err = o.failure
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return false, err
	}
	return o.answered, nil
}
