package handoff

import (
	"fmt"

	"holdfast/handoff/takeover"
	"holdfast/reaper"
)

// A process that has changed its user, and has executed nothing since, may be looked into by nobody without
// CAP_SYS_PTRACE, not even by one that takes on its user for that (PR_SET_DUMPABLE, ptrace(2)). What it binds can't be
// known. What it listens on can, if it was bound before.

// listenUnseen finds out by the descriptor's number which of the sockets that the generation has bound a program listens
// on whose descriptors may not be looked at. If it is none, the program has a port that is not held.
func (l *Loop) listenUnseen(g *generation, c *takeover.Call) {
	pid, err := c.Process()
	parent, _ := reaper.ReadProcess(pid)
	l.ask(func() {
		if inode, ok := g.ledger.boundAt(c.FD, pid, parent.Parent); ok && err == nil {
			l.listen(g, inode)
			return
		}
		l.notHeld(g, c.PID)
	})
}

// boundAt is the socket that one of the processes has bound under that descriptor, and that does not listen yet.
func (b *ledger) boundAt(fd int, pids ...int) (inode uint64, ok bool) {
	for _, pid := range pids {
		for inode, t := range b.bound {
			if pid > 0 && t.pid == pid && t.at == fd && !t.Listening() {
				return inode, true
			}
		}
	}
	return 0, false
}

// notHeld takes note of a port that a program has and that is not held. Where the takeover is required, a generation that
// has not been proven ends by that.
func (l *Loop) notHeld(g *generation, pid int) {
	why := fmt.Sprintf("process %d listens, but it has changed its user and may not be looked into: CAP_SYS_PTRACE is missing; "+
		"add that capability, or change the user before the program starts (gosu, su-exec, setpriv)", pid)
	if l.o.Takeover == TakeoverRequire && !g.proven(l) {
		if g.forbidden == "" {
			g.forbidden = "--takeover require: " + why
			l.kill(g, g.forbidden)
		}
		return
	}
	if !l.warned {
		l.warned = true
		l.log.Warn("no takeover: what the child binds for itself is not held; use --listen", "err", why)
	}
}
