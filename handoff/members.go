package handoff

import (
	"errors"
	"slices"
	"time"

	"holdfast/handoff/machine"
	"holdfast/reaper"
)

// census lists the generation's processes, as far as there is a /proc to see them. An error is a shortage, which may pass:
// whoever would take a process that it does not see for one that is gone must wait.
func (l *Loop) census(g *generation) ([]reaper.Process, error) {
	census, err := l.reaper.Census(l.families())
	switch {
	case errors.Is(err, reaper.ErrNoProc):
		return known(g), nil
	case err != nil:
		return nil, err
	}
	return census[g.family], nil
}

// members lists the generation's processes; where /proc cannot be read only the main one is known.
func (l *Loop) members(g *generation) []reaper.Process {
	members, err := l.census(g)
	if err != nil {
		return known(g)
	}
	return members
}

// known is what can be said of a generation's processes without /proc: its main one, until that has exited.
func known(g *generation) []reaper.Process {
	if g.mainGone {
		return nil
	}
	return []reaper.Process{{PID: g.pid}}
}

func (l *Loop) families() []*reaper.Family {
	families := make([]*reaper.Family, 0, len(l.generations))
	for _, g := range l.generations {
		if g.family != nil {
			families = append(families, g.family)
		}
	}
	return families
}

// lookAgain is the pause before the next look where /proc could not be read.
const lookAgain = time.Second

// lookForEmpty finds the generations of which nothing is left. Each process that ends is a child of this one by then,
// so that looking after every reaping is enough.
func (l *Loop) lookForEmpty() {
	if !slices.ContainsFunc(l.machine.Gens, func(s machine.Generation) bool { return s.MainGone && !s.Empty }) {
		return
	}
	census, err := l.reaper.Census(l.families())
	if err != nil && !errors.Is(err, reaper.ErrNoProc) {
		// For want of descriptors, say. Taken for gone, what is left would never be stopped.
		l.log.Warn("cannot see what is left of a generation", "err", err)
		l.after(lookAgain, l.lookForEmpty)
		return
	}
	for n, g := range l.generations {
		state, ok := l.machine.Generation(n)
		if !ok || !g.mainGone || state.Empty || g.family == nil {
			continue
		}
		switch left := census[g.family]; {
		case len(left) == 0:
			l.feed(machine.Event{Kind: machine.Emptied, Gen: n})
		case g.killed:
			l.kill(g, "")
		default:
			g.record.Processes = len(left)
		}
	}
}
