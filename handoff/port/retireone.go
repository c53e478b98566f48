package port

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// lastWords is how long a socket that RetireOne has taken out of service still takes what handshakes in flight bring there.
const lastWords = time.Second

// RetireOne ends one of several sockets of generation gen, by its inode, that no process has open any more: a worker with a
// socket of its own has ended, and the holder's duplicate keeps its share of the clients waiting. If gen is live, new
// connections go to its other sockets at once; what is queued on this one, and what handshakes in flight still bring
// there, is relayed to the live generation. Then it is shut down and closed.
//
// The last socket of a generation is not ended so (errLast), but by Retire.
func (p *Port) RetireOne(gen int, inode uint64) error {
	p.slow.Lock()
	defer p.slow.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.retireOne(gen, inode); err != nil {
		return fmt.Errorf("retire a socket of generation %d of %s: %w", gen, p.spec, err)
	}
	return nil
}

func (p *Port) retireOne(gen int, inode uint64) error {
	all := p.gens[gen]
	i := slices.IndexFunc(all, func(s *socket) bool { return s.inode() == inode })
	switch {
	case p.closed:
		return errClosed
	case i < 0:
		return errNoSocket
	case len(all) == 1:
		return errLast
	}
	s := all[i]
	p.notice()
	p.gens[gen] = slices.Concat(all[:i], all[i+1:])
	if s.users--; s.users > 0 {
		return p.steerAway(gen)
	}
	_ = unix.SetNonblock(s.fd, true) // which concerns nobody else now
	s.relaying = true
	err := p.steerAway(gen)
	p.rewatch()
	p.tasks.Go(func() {
		p.rest(lastWords)
		for _, out := range p.bury(s) {
			p.dispose(out)
		}
	})
	return err
}

// bury takes a socket that no generation has out of its group, and returns what is to be disposed of.
func (p *Port) bury(s *socket) (out []*socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.retired = true
	switch {
	case p.closed:
		return []*socket{s}
	case !slices.Contains(p.members, s): // it was shut down, or hidden
		p.end(s)
		out = []*socket{s}
	}
	out = append(out, p.sweep()...)
	p.rewatch()
	return out
}

// steerAway has the switch follow a change of gen's sockets. p.mu is held.
func (p *Port) steerAway(gen int) error {
	if gen != p.live || p.shared || len(p.members) == 0 {
		return nil
	}
	return p.steer()
}

// inode names the socket; 0 where it has been closed. Port.mu is held.
func (s *socket) inode() uint64 {
	var stat unix.Stat_t
	if s.fd < 0 || unix.Fstat(s.fd, &stat) != nil {
		return 0
	}
	return stat.Ino
}
