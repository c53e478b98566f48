package port

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// steer attaches the program that the members, the live generation and the probes in flight call for. p.mu is held.
func (p *Port) steer() error { return p.steerTo(p.gens[p.live]) }

// steerTo is steer to some of the live generation's sockets. p.mu is held.
func (p *Port) steerTo(live []*socket) error {
	err := error(errNoSocket)
	prog := program(p.indices(live), p.routes())
	for _, m := range p.members {
		if err = p.attach(m.fd, prog); err == nil {
			return nil
		}
	}
	return err
}

// indices are the places of sockets in the group; those that have left it have none.
func (p *Port) indices(sockets []*socket) []int {
	var all []int
	for i, m := range p.members {
		if slices.Contains(sockets, m) {
			all = append(all, i)
		}
	}
	return all
}

// routes are the probes in flight as the program wants them.
func (p *Port) routes() []route {
	var all []route
	for _, pr := range p.probes {
		if i := slices.Index(p.members, pr.to); i >= 0 {
			all = append(all, route{from: pr.from, index: i})
		}
	}
	return all
}

// join puts s at the end of the group. The kernel does so at listen(2), for UDP at bind(2).
func (p *Port) join(s *socket) {
	p.members = append(p.members, s)
	s.left = false
}

// leave follows the kernel when s leaves the group: the last member moves into its place (reuseport_detach_sock in
// net/core/sock_reuseport.c).
func (p *Port) leave(s *socket) {
	i := slices.Index(p.members, s)
	if i < 0 { // hidden: it had none any more
		s.left = true
		return
	}
	last := len(p.members) - 1
	p.members[i] = p.members[last]
	p.members = p.members[:last]
	s.left = true
	p.epoch++
	if len(p.members) > 0 && !p.shared {
		if err := p.steer(); err != nil {
			p.log.Warn("switch not set after a socket left its group", "error", err)
		}
	}
}

// sweep takes the retired members out of the group. p.mu is held; what it returns must be given to dispose without it.
//
// Stand-ins go last: one that is taken out in place of a retired socket only calls for the next stand-in, without end.
func (p *Port) sweep() (out []*socket) {
	take := func(standIn bool) bool {
		i := slices.IndexFunc(p.members, func(m *socket) bool { return m.retired && m.standIn == standIn && p.removable(m) })
		if i < 0 {
			return false
		}
		out = append(out, p.members[i])
		p.expel(p.members[i])
		return true
	}
	for take(false) || p.standIn() || take(true) {
	}
	return out
}

// maxRetired is how many retired UDP members may wait to leave the group. More are taken out whatever the harm.
const maxRetired = 16

// removable says whether s can leave the group without sending anybody astray. Between the instant in which the kernel
// moves the last member into its place and the one in which the new program is attached, a program that points at the
// last member points past the end, and the kernel spreads connections over the members that are left. So the last member
// must not be a live one, or the switch must have others to lead to meanwhile (stepAside). A datagram that goes astray for
// once does no harm where every other member is relayed.
func (p *Port) removable(s *socket) bool {
	last, live := p.members[len(p.members)-1], p.gens[p.live]
	if s == last || !slices.Contains(live, last) || len(p.liveBut(last)) > 0 {
		return true
	}
	return p.spec.Network == "udp" && (p.countRetired() > maxRetired || !slices.ContainsFunc(p.members, func(m *socket) bool {
		return m != s && !m.relaying && !slices.Contains(live, m)
	}))
}

// liveBut are the live members of the group without one of them.
func (p *Port) liveBut(s *socket) (others []*socket) {
	for _, m := range p.members {
		if m != s && slices.Contains(p.gens[p.live], m) {
			others = append(others, m)
		}
	}
	return others
}

// stepAside has the switch lead to the other live members only, if s is about to leave and the last member, which is to
// be moved into its place, is live.
func (p *Port) stepAside(s *socket) {
	if len(p.members) == 0 {
		return
	}
	last := p.members[len(p.members)-1]
	if s == last || p.shared || !slices.Contains(p.gens[p.live], last) {
		return
	}
	if others := p.liveBut(last); len(others) > 0 {
		_ = p.steerTo(others) // where it fails, it will when s has left, too, which is told
	}
}

func (p *Port) countRetired() (n int) {
	for _, m := range p.members {
		if m.retired {
			n++
		}
	}
	return n
}

// standIn puts a socket of nobody's behind a live last member, if a retired one waits to leave: that is the one to be
// moved into its place then, and keeps it until the next generation has joined. It says whether it did. Where it can't,
// the retired one keeps its place itself. UDP does without: there a datagram may well go astray for once.
func (p *Port) standIn() bool {
	if p.spec.Network == "udp" || p.shared || p.closed || !slices.ContainsFunc(p.members, func(m *socket) bool { return m.retired && !m.standIn }) {
		return false
	}
	s, err := p.memberLocked()
	if err != nil {
		p.log.Debug("a retired socket keeps its place", "err", err)
		return false
	}
	s.standIn, s.retired, s.relaying = true, true, true
	return true
}

// expel takes s out of the group, relaying what is still queued on it. A close alone would not do: a process that was
// left behind may hold a duplicate. shutdown(2) takes a TCP listener out at once, whoever holds it (tcp_disconnect →
// reuseport_stop_listen_sock; with net.ipv4.tcp_migrate_req=1 too, where it goes into the group's closed section).
func (p *Port) expel(s *socket) {
	p.stepAside(s)
	_ = hide(s.fd)
	if p.spec.Network == "udp" {
		p.leave(s)
		p.drainLocked(s)
		return
	}
	p.drainLocked(s)
	p.notice()
	if s.left {
		return
	}
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	p.leave(s)
}

// hide binds a socket to a device that does not exist, so that the kernel's search for whom a packet is meant passes it
// by. No privilege is needed for a socket that is bound to none (SO_BINDTOIFINDEX, Linux 5.1; unprivileged since 5.7).
//
// A UDP socket leaves its group by that, as it is hashed anew (udp_lib_rehash in net/ipv4/udp.c); where it fails, the close
// that follows does the same, provided that no process was left behind with a duplicate.
//
// A TCP listener stays in its group. But when it then is shut down it loses its group an instant before it leaves the hash
// table (inet_unhash in net/ipv4/inet_hashtables.c), and a connection that another CPU looks up in that instant would
// fall to it for being the first that matches, and be reset.
func hide(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, math.MaxInt32)
}
