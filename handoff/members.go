package handoff

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"holdfast/handoff/machine"
	"holdfast/reaper"
)

// lookAgain is the pause before the next look where /proc could not be read.
const lookAgain = time.Second

// maxStale is how often in a row a generation may be seen to be gone by a census during which children were reaped, before that
// is believed: in some pods there are always some.
const maxStale = 4

// lookForEmpty finds the generations of which nothing is left. Each process that ends is a child of this one by then,
// so that looking after every reaping is enough.
func (l *Loop) lookForEmpty() {
	if slices.ContainsFunc(l.machine.Gens, func(s machine.Generation) bool { return s.MainGone && !s.Empty }) {
		l.censuses.left = true
		l.beginCensus()
	}
}

// seeLeft takes note of what a census has found to be left of generations whose main process has exited.
func (l *Loop) seeLeft(s seen) {
	if s.err != nil && !errors.Is(s.err, reaper.ErrNoProc) {
		// For want of descriptors, say. Taken for gone, what is left would never be stopped.
		l.log.Warn("cannot see what is left of a generation", "err", s.err)
		l.after(lookAgain, l.lookForEmpty)
		return
	}
	for g, left := range s.members {
		state, ok := l.machine.Generation(g.number)
		if !ok || l.generations[g.number] != g || !g.mainGone || state.Empty || l.exit != nil {
			continue
		}
		switch {
		case len(left) == 0 && s.stale && g.stale < maxStale:
			// The last that it saw may have started another, which it did not see, and have ended.
			g.stale++
			l.lookForEmpty()
		case len(left) == 0:
			l.feed(machine.Event{Kind: machine.Emptied, Gen: g.number})
		case g.killed && g.killing == 0:
			l.killMembers(g, left)
		case g.killed:
			g.missed = true
		default:
			g.stale = 0
			g.record.Processes = len(left)
		}
	}
}

// signalledAtOnce is how many processes get a signal before the loop does something else. Each is looked at before (some 25 µs).
const signalledAtOnce = 64

// signalMembers signals processes that a census has found, then runs then.
func (l *Loop) signalMembers(g *generation, members []reaper.Process, s syscall.Signal, then func()) {
	n := min(len(members), signalledAtOnce)
	for _, p := range members[:n] {
		l.signalMember(g, p, s)
	}
	if n == len(members) {
		then()
		return
	}
	go l.post(func() { l.signalMembers(g, members[n:], s, then) })
}
