package port

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How often ProveAccept looks: at first after firstLook, then at intervals that double up to lastLook.
const (
	firstLook = 500 * time.Microsecond
	lastLook  = 20 * time.Millisecond
)

// ProveAccept returns nil once generation gen has accepted a connection that only it could receive (for UDP: has read a
// datagram, of length zero), on each of its sockets: connections are spread over them, so that one that nobody accepts on
// would swallow its share. It needs nothing of the server: the proof is that the connection has left the accept queue.
// It tries again as often as the connection is refused or reset, until ctx ends; the error then says what was seen last
// (an attempt that ctx only cut short has seen nothing), and wraps the context's cause. Where all generations share a
// socket, it proves only that somebody accepts.
//
// The connection is half closed at once, so that it passes TCP_DEFER_ACCEPT too; the server reads an end of file.
func (p *Port) ProveAccept(ctx context.Context, gen int) error {
	looks := pace{next: firstLook}
	sofar := proof{proven: map[*socket]bool{}}
	for {
		err := p.proveEach(ctx, gen, &sofar)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNoSocket):
			return fmt.Errorf("prove generation %d on %s: %w", gen, p.spec, err)
		case looks.wait(ctx) != nil:
			return fmt.Errorf("%s: %s: %w", p.spec, sofar, context.Cause(ctx))
		}
	}
}

// A proof is how far ProveAccept has got.
type proof struct {
	proven   map[*socket]bool
	next     *socket // the one that it tries now
	left, of int     // how many are not proven yet, of how many
	seen     string  // what was seen last of next; empty: nothing yet
}

// String says where it stands, for the operator.
func (p proof) String() string {
	seen := cmp.Or(p.seen, "not connected")
	if p.of > 1 {
		return fmt.Sprintf("%d of %d sockets: %s", p.of-p.left, p.of, seen)
	}
	return seen
}

// proveEach proves the generation's sockets that have not been proven before, and notes those that are now. It ends when
// none is left, also of those that the generation has opened meanwhile.
func (p *Port) proveEach(ctx context.Context, gen int, sofar *proof) error {
	for {
		s, left, of, err := p.unproven(gen, sofar.proven)
		if s == nil {
			return err
		}
		if s != sofar.next {
			sofar.next, sofar.seen = s, ""
		}
		sofar.left, sofar.of = left, of
		seen, err := p.prove(ctx, s)
		if err != nil {
			sofar.seen = cmp.Or(seen, sofar.seen)
			return err
		}
		sofar.proven[s] = true
	}
}

// unproven returns a socket of the generation's that is to be proven, nil if there is none, and how many there are. One that
// has been shut down gets no connections, so it needs no proof where others do.
func (p *Port) unproven(gen int, proven map[*socket]bool) (s *socket, left, of int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.gens[gen]
	if len(all) == 0 {
		return nil, 0, 0, errNoSocket
	}
	for _, one := range all {
		if !one.left {
			of++
		}
		if !one.left && !proven[one] {
			if left++; s == nil {
				s = one
			}
		}
	}
	if of == 0 {
		s = all[0] // the dial says that it has been shut down
	}
	return s, left, of, nil
}

// prove tries with one connection. seen is where that got to, in words for the operator; empty if ctx cut it short before
// it got anywhere.
func (p *Port) prove(ctx context.Context, s *socket) (seen string, err error) {
	conn, err := p.dialSocket(ctx, s, p.sources())
	switch {
	case err != nil && p.abrupt(s, err): // before the dial was done
		return "accepted and reset", nil
	case err != nil:
		return plainly(err), err
	}
	defer conn.Close()
	if p.spec.Network == "udp" {
		return p.proveRead(ctx, s, conn)
	}
	// An error means that the server has reset the connection already, which the first look sees.
	_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	looks := pace{next: firstLook}
	for {
		seen, done, err := p.look(s, conn)
		if done || err != nil {
			return seen, err
		}
		if ctx.Err() != nil { // after a last look, so that seen is true
			return seen, ctx.Err()
		}
		looks.answer(ctx, conn)
	}
}

// plainly says in a few words why there is no connection; in none if only the time was too short for one.
func plainly(err error) string {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, unix.ECONNRESET):
		return "connection reset"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return ""
	default:
		return err.Error()
	}
}

// look sees how far a half-closed connection to s has come.
func (p *Port) look(s *socket, conn net.Conn) (seen string, done bool, err error) {
	o, err := observe(conn, p.spec.Network)
	switch {
	case err != nil:
		return plainly(err), false, err
	case o.failure != nil && !p.abrupt(s, o.failure):
		return plainly(o.failure), false, o.failure
	case o.failure != nil:
		return "accepted and reset", true, nil
	case o.answered:
		return "accepted", true, nil
	case p.pendingOn(s):
		return "queued, not accepted", false, nil
	case !o.queued:
		return "connected, not yet queued", false, nil
	case !p.accepting(s):
		return plainly(unix.ECONNRESET), false, unix.ECONNRESET
	default:
		return "accepted", true, nil
	}
}

// abrupt says whether a reset came from a server that had accepted: its listener is there and its queue is not too full
// (with net.ipv4.tcp_abort_on_overflow the kernel resets what finds no place).
func (p *Port) abrupt(s *socket, failure error) bool {
	if p.spec.Network != "tcp" || !errors.Is(failure, unix.ECONNRESET) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.fd < 0 || !listening(s.fd) {
		return false
	}
	length, limit := acceptQueue(s.fd)
	return length <= limit
}

// accepting says whether s still takes connections, so that an empty queue means that they are accepted.
func (p *Port) accepting(s *socket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.fd >= 0 && !s.left && (p.spec.Network != "tcp" || listening(s.fd))
}

func (p *Port) pendingOn(s *socket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.fd >= 0 && !s.left && waiting(s.fd)
}

// An observation of the client's side of a half-closed connection.
type observation struct {
	queued   bool  // it has reached the server's accept queue, and may have left it
	answered bool  // data or the end came from the server
	failure  error // it was refused or reset
}

func observe(conn net.Conn, network string) (o observation, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return o, fmt.Errorf("observe probe: %w", err)
	}
	err = raw.Control(func(fd uintptr) { o = observeFD(int(fd), network) })
	return o, err
}

// observeFD reads the state. After connect(2) the last acknowledgement of the handshake may still be under way; only when
// the server's kernel has acknowledged the FIN is the connection in its queue. (It delays that by 40 ms, unless the server
// answers or ends the connection first, as most do.) An end on both sides leaves the state closed without an error.
func observeFD(fd int, network string) (o observation) {
	if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
		o.failure = syscall.Errno(errno)
		return o
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
	if n, err := unix.Poll(poll, 0); err == nil && n == 1 {
		o.answered = poll[0].Revents&(unix.POLLIN|unix.POLLRDHUP|unix.POLLHUP) != 0
	}
	if network != "tcp" {
		o.queued = true // a unix socket's connect(2) puts it there
		return o
	}
	switch tcpState(fd) {
	case stateFinWait2, stateTimeWait, stateClose, stateClosing:
		o.queued = true
	}
	return o
}

// answer waits for the next look, or until something comes from the server: most close a half-closed connection as soon as
// they have accepted it.
func (p *pace) answer(ctx context.Context, conn net.Conn) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err == nil {
		err = conn.SetReadDeadline(time.Now().Add(p.next))
	}
	if err != nil {
		_ = p.wait(ctx)
		return
	}
	p.next = min(2*p.next, lastLook)
	_ = raw.Read(func(fd uintptr) bool { // the error is that the time is over
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		return err != nil || n > 0
	})
}

// A pace is a growing interval between looks.
type pace struct{ next time.Duration }

// wait waits for the next look; the error is ctx's.
func (p *pace) wait(ctx context.Context) error {
	timer := time.NewTimer(p.next)
	defer timer.Stop()
	p.next = min(2*p.next, lastLook)
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
