package port

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A Bound is a socket that is bound for a generation's program, and takes the place of the program's own or is that
// itself. It listens when the program has it listen, and not before: some servers (haproxy) take a socket that listens
// already for one that is none of their business, and one that never listens must not hold the port.
type Bound struct {
	p         *Port
	gen       int
	fd        int
	inode     uint64
	listening bool
	own       bool // it is the program's own description
}

// FD is the socket's descriptor, to be duplicated into the program. The Port owns it.
func (b *Bound) FD() int { return b.fd }

// Inode names the socket, in the program's /proc/PID/fd too.
func (b *Bound) Inode() uint64 { return b.inode }

// Own says whether it is the program's own socket, so that nothing has to take its place.
func (b *Bound) Own() bool { return b.own }

// Port is where it is bound.
func (b *Bound) Port() *Port { return b.p }

// Listening says whether it is in use.
func (b *Bound) Listening() bool { return b.listening }

// Connected says whether the program has connected the socket, and so is a client that wanted a port of its own.
func (b *Bound) Connected() bool {
	_, err := unix.Getpeername(b.fd)
	return err == nil || tcpState(b.fd) == stateSynSent
}

// Listen takes the socket into use, as the program is about to: it listens, and takes part in the switch. It does nothing
// to one that listens already. The program's own listen(2) may follow; it sets the length of the accept queue.
func (b *Bound) Listen() error {
	if b.listening {
		return nil
	}
	b.p.slow.Lock()
	defer b.p.slow.Unlock()
	if err := b.p.listenOn(b); err != nil {
		return fmt.Errorf("listen on %s for generation %d: %w", b.p.spec, b.gen, err)
	}
	b.listening = true
	return nil
}

func (p *Port) listenOn(b *Bound) error {
	p.mu.Lock()
	first := p.unled()
	s, err := p.listenAndJoin(b.fd, first)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if !first {
		if err := p.selfTest(s); err != nil {
			// It was seen to work before. The program has the socket: there is no taking it back.
			p.log.Error("the switch does not lead where it should: connections may reach a generation too early", "generation", b.gen, "err", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gens[b.gen] = append(p.gens[b.gen], s)
	if first {
		p.live, p.heir = b.gen, nil
	}
	p.later(p.sweep())
	p.rewatch()
	switch err := p.steer(); {
	case err != nil && first:
		p.fallBack(err)
	case err != nil && b.gen == p.live:
		return err
	}
	return nil
}

// listenAndJoin has fd listen and takes it into the group. From then on it belongs to a socket. p.mu is held.
func (p *Port) listenAndJoin(fd int, first bool) (*socket, error) {
	if p.closed {
		return nil, errClosed
	}
	if !first {
		if err := p.steer(); err != nil {
			return nil, fmt.Errorf("attach program: %w: %w", errNotSteered, err)
		}
	}
	if err := p.listenInOrder(fd); err != nil {
		return nil, err
	}
	s := p.newSocket(fd)
	p.join(s)
	return s, nil
}

// Release closes a socket that was never taken into use. It does nothing to one that listens, which Retire closes. A
// program's own stays bound as long as the program has it.
func (b *Bound) Release() {
	if b.listening || b.fd < 0 {
		return
	}
	_ = unix.Close(b.fd)
	b.fd = -1
}
