package handoff

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"

	"holdfast/reaper"
)

// A server that replaces itself forks its successor, hands it the listening sockets and exits. With Follow the generation
// goes on then: another of its processes takes the main one's place.
//
// The successor is what MAINPID= has named, or else the oldest process that has one of the generation's listening sockets
// open; of its ancestors the one that is a child of this process by now, so that its exit will be seen here.

// leave says whether it is still to be found out if another process takes the place of a main one that has exited. What
// that one has said of its successor may be on its way through the notify socket: this process says something behind it,
// and hears of that when all that came before has been heard. Signals are kept meanwhile.
func (l *Loop) leave(g *generation, e reaper.Exit) bool {
	state, _ := l.machine.Generation(g.number)
	if !l.o.Follow || !g.executed || g.killed || state.Stopped || g.notify == nil {
		return false
	}
	g.leaving = &e
	go func() {
		if err := g.notify.Echo(); err != nil {
			l.log.Warn("cannot hear what a main process has said last", "generation", g.number, "err", err)
			l.post(func() { l.left(g) })
		}
	}()
	return true
}

// left decides about a generation whose main process has exited: all that it has said has been heard.
func (l *Loop) left(g *generation) {
	e := g.leaving
	if e == nil {
		return
	}
	l.census(func(s seen) {
		named, inodes, members := g.successor, map[string]bool{}, s.ofAny(g)
		for _, p := range l.portsOf(g.number) {
			maps.Copy(inodes, inodeSet(p.Inodes(g.number)))
		}
		main := g.pid
		go func() { // which looks through descriptors, and may take a while
			next, ok := successor(members, main, named, inodes, l.reaper.PID())
			l.post(func() { l.decideLeft(g, e, next, ok) })
		}()
	})
}

// decideLeft goes on with the successor, if there is one, or without a main process.
func (l *Loop) decideLeft(g *generation, e *reaper.Exit, next reaper.Process, ok bool) {
	state, _ := l.machine.Generation(g.number)
	switch {
	case g.leaving != e: // it has been decided
		return
	case !ok, g.killed, state.Stopped: // meanwhile
	case l.reaper.Holds(g.family, l.families(), next.PID):
		g.leaving = nil
		l.follows(g, *e, next)
		return
	default: // it has ended meanwhile, and its exit was taken for an orphan's; there may be another
		l.left(g)
		return
	}
	g.leaving = nil
	l.mainGone(g, *e)
	l.lookForEmpty()
	l.publish()
}

// follows puts the successor into the place of the main process.
func (l *Loop) follows(g *generation, e reaper.Exit, next reaper.Process) {
	l.log.Info("main process exited: another takes its place", "generation", g.number, "pid", g.pid, "exit", e, "successor", next.PID, "name", next.Name)
	terminal := reaper.Terminal(0, l.foreground)
	g.pid, g.successor = next.PID, 0
	if terminal >= 0 && l.foreground != 0 && g.number == l.machine.Live {
		if err := reaper.GiveTerminal(terminal, next.Group); err == nil {
			l.foreground = next.Group
		}
	}
	l.forwardKept(g)
	l.publish()
}

// successor finds the process among the members that takes the place of the main one, self's child, if there is one: that
// which was named, or one that has one of the sockets open.
func successor(members []reaper.Process, main, named int, inodes map[string]bool, self int) (reaper.Process, bool) {
	by := make(map[int]reaper.Process, len(members))
	for _, p := range members {
		by[p.PID] = p
	}
	delete(by, main)
	if p, ok := by[named]; ok {
		return eldest(by, p, self), true
	}
	if len(inodes) == 0 { // it is without a takeover, say: whatever it listens on is its own
		inodes = listening()
	}
	oldest := slices.SortedFunc(slices.Values(members), func(a, b reaper.Process) int { return cmp.Compare(a.Start, b.Start) })
	for _, p := range oldest {
		if p.PID == main || len(inodes) == 0 || !anyOpen([]reaper.Process{p}, inodes) {
			continue
		}
		return eldest(by, p, self), true
	}
	return reaper.Process{}, false
}

// listening lists the inodes of all sockets that listen for connections, as the tables of this network namespace show
// them: proc_pid_net(5).
func listening() map[string]bool {
	inodes := map[string]bool{}
	for _, table := range []struct {
		name        string
		flag, inode int // fields
		listens     string
	}{{"tcp", 3, 9, "0A"}, {"tcp6", 3, 9, "0A"}, {"unix", 3, 6, "00010000"}} {
		text, err := os.ReadFile("/proc/self/net/" + table.name)
		if err != nil {
			continue // no IPv6, no /proc
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > table.inode && f[table.flag] == table.listens {
				inodes[f[table.inode]] = true
			}
		}
	}
	return inodes
}

// eldest goes up from p to the member that is a child of this process.
func eldest(by map[int]reaper.Process, p reaper.Process, self int) reaper.Process {
	for range len(by) {
		parent, ok := by[p.Parent]
		if p.Parent == self || !ok {
			return p
		}
		p = parent
	}
	return p
}
