package port

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Retire ends generation gen, whose processes are gone: what is still queued for it is relayed to the live generation (the
// copying goes on in the background), its sockets are shut down and closed, whoever else may hold a duplicate. It returns
// how many stragglers the generation had in all. A socket that another generation has too goes on as it is.
//
// The live generation can be retired only as the last one; the port is then no longer held, until the next Open.
func (p *Port) Retire(gen int) (relayed int, err error) {
	p.slow.Lock()
	defer p.slow.Unlock()
	sockets, err := p.release(gen)
	if err != nil {
		return 0, fmt.Errorf("retire generation %d of %s: %w", gen, p.spec, err)
	}
	for _, s := range sockets {
		p.drainAll(s)
	}
	for _, s := range p.remove(sockets) {
		p.dispose(s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range sockets {
		relayed += s.relayed
	}
	return relayed, p.heal()
}

// release takes gen's sockets from it and returns those that no other generation has.
func (p *Port) release(gen int) (sockets []*socket, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.gens[gen]
	switch {
	case len(all) == 0:
		return nil, errNoSocket
	case gen == p.live && len(p.gens) > 1:
		return nil, errLive
	}
	for _, s := range all {
		if s.users--; s.users == 0 {
			s.relaying = p.canRelay(s) && (gen != p.live || p.heir != nil)
			s.retired = true
			sockets = append(sockets, s)
		}
	}
	p.forget(gen, sockets)
	return sockets, nil
}

// forget takes a generation off the list, and the port's path away if nobody has it any more.
func (p *Port) forget(gen int, sockets []*socket) {
	delete(p.gens, gen)
	if gen != p.live {
		return
	}
	p.live = 0
	for _, s := range sockets {
		if s.file != nil {
			s.file.unpublish()
		}
	}
}

// drainAll takes all that is queued on a socket that no process uses any more; its O_NONBLOCK concerns nobody else now.
// For want of descriptors it tries for up to retirePauses × errorPause.
func (p *Port) drainAll(s *socket) {
	_ = unix.SetNonblock(s.fd, true)
	for range retirePauses {
		pause := p.drain(s)
		if pause == 0 {
			return
		}
		p.rest(pause)
	}
}

// retirePauses is how often Retire waits for descriptors to take stragglers with: 2 s in all.
const retirePauses = 40

// remove takes retired sockets out of use, as far as that can be now, and returns those that are to be closed.
func (p *Port) remove(sockets []*socket) (out []*socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range sockets {
		switch {
		case s.file != nil: // not in a group
			_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
			p.drainLocked(s) // a unix socket keeps its queue through that
			out = append(out, s)
		case s.left:
			out = append(out, s)
		case p.spec.Network == "tcp" && !slices.Contains(p.members, s): // hidden
			p.end(s)
			out = append(out, s)
		}
	}
	out = append(out, p.sweep()...)
	p.rewatch()
	return out
}

// dispose closes a socket that is out of use. Whoever is stuck in an accept on it has been woken by its shutdown.
func (p *Port) dispose(s *socket) {
	s.helpers.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unwatch(s)
	p.ignoreArrivals(s)
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
	if s.file != nil {
		s.file.remove()
	}
}

// later disposes of sockets in the background. p.mu is held.
func (p *Port) later(sockets []*socket) {
	for _, s := range sockets {
		p.tasks.Go(func() { p.dispose(s) })
	}
}

// heal puts the live generation's socket back at the port's path, which a server may remove when it stops.
func (p *Port) heal() error {
	if s := p.first(p.live); s != nil && s.file != nil && s.file.name != "" {
		return s.file.publish()
	}
	return nil
}

// Close ends everything: relays in flight too. All sockets are shut down and closed. A unix socket's path is removed if it
// still leads to one of the port's sockets. No other method does anything sensible afterwards.
func (p *Port) Close() error {
	p.slow.Lock()
	defer p.slow.Unlock()
	sockets, ok := p.shut()
	if !ok {
		return nil
	}
	p.stop()
	for _, s := range sockets {
		p.dispose(s)
	}
	p.tasks.Wait()
	return nil
}

// shut marks the port closed, so that nothing new begins, and shuts its sockets down.
func (p *Port) shut() (sockets []*socket, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false
	}
	p.closed = true
	sockets = p.sockets()
	for _, s := range sockets {
		if s.file != nil {
			s.file.unpublish()
		}
		if p.spec.Network == "udp" {
			_ = hide(s.fd)
		} else {
			_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
		}
		p.unwatch(s)
	}
	for _, f := range p.flows {
		_ = f.server.Close()
	}
	if p.watch != nil {
		p.watch.close()
		p.watch = nil
	}
	if p.arrivals != nil {
		p.arrivals.watch.close()
		p.arrivals = nil
	}
	clear(p.gens)
	p.members, p.live = nil, 0
	return sockets, true
}

// Adopt gives generation to the sockets of generation from, with what is queued on them: for the restart of one that
// died, and where two generations can't overlap. If from is live, to is from now on. Retire(from) then leaves the sockets
// alone. A listener that from has shut down listens again.
func (p *Port) Adopt(from, to int) error {
	p.slow.Lock()
	defer p.slow.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.adopt(from, to); err != nil {
		return fmt.Errorf("give generation %d the sockets of %d on %s: %w", to, from, p.spec, err)
	}
	return nil
}

func (p *Port) adopt(from, to int) error {
	switch {
	case p.closed:
		return errClosed
	case len(p.gens[to]) > 0:
		return errHasSocket
	case len(p.gens[from]) == 0:
		return errNoSocket
	}
	if err := p.revive(p.gens[from]); err != nil {
		return err
	}
	p.shareLocked(from, to)
	if p.live == from {
		p.live = to
	}
	p.unrelay(p.gens[to])
	return nil
}

// revive has TCP listeners that were shut down listen again; they join their group anew.
func (p *Port) revive(sockets []*socket) error {
	if p.spec.Network != "tcp" {
		return nil
	}
	p.notice()
	var failed error
	for _, s := range sockets {
		if listening(s.fd) {
			continue
		}
		p.leave(s)
		if err := p.listenInOrder(s.fd); err != nil {
			failed = errors.Join(failed, fmt.Errorf("listen again on %s: %w", p.spec, err))
			continue
		}
		p.join(s)
	}
	if failed == nil && !p.shared && len(p.members) > 1 {
		return p.steer()
	}
	return failed
}
