package handoff

import (
	"errors"

	"holdfast/reaper"
)

// A census reads all of /proc, which takes a quarter of a second where there are ten thousand processes. Signals, exits and
// cutovers do not wait for it: it runs beside the loop, on clones of the families, and the loop has it told what it has found.
// What it has found is not what is now. It suffices where one that has come since is found later on, or where a look is
// repeated; whoever is signalled is looked at again just before.

// censuses are those that are asked for: one is under way at most.
type censuses struct {
	under bool
	asked []func(seen) // who waits for the next one: one that has begun before the question does not answer it
	left  bool         // the next one is to say whether anything is left of a generation
}

// seen is what a census has found.
type seen struct {
	members map[*generation][]reaper.Process
	err     error // why it has found nothing: reaper.ErrNoProc, or a shortage that may pass
	stale   bool  // children were reaped since it began
}

// census has the processes of all generations looked for, from now on, and runs then in the loop's goroutine.
func (l *Loop) census(then func(seen)) {
	l.censuses.asked = append(l.censuses.asked, then)
	l.beginCensus()
}

// beginCensus begins a census, unless one is under way: it is begun then when that has ended.
func (l *Loop) beginCensus() {
	c := &l.censuses
	if c.under || len(c.asked) == 0 && !c.left {
		return
	}
	asked, left := c.asked, c.left
	*c = censuses{under: true}
	clones := make(map[*generation]*reaper.Family, len(l.generations))
	families := make([]*reaper.Family, 0, len(l.generations))
	for _, g := range l.generations {
		if g.family != nil {
			clones[g] = g.family.Clone()
			families = append(families, clones[g])
		}
	}
	reaped := l.reaper.Reaped()
	go func() {
		found, err := l.reaper.Census(families)
		l.post(func() {
			c.under = false
			if !l.covers(clones) {
				c.asked, c.left = append(asked, c.asked...), c.left || left
				l.beginCensus()
				return
			}
			s := seen{err: err, stale: l.reaper.Reaped() != reaped, members: make(map[*generation][]reaper.Process, len(clones))}
			for g, clone := range clones {
				if err == nil {
					g.family.Learn(clone)
				}
				s.members[g] = found[clone]
			}
			l.beginCensus()
			l.tellSeen(s, asked, left)
		})
	}()
}

// covers says whether those are the families of all generations that there are. Without that of a generation that has been
// started meanwhile, its orphans would be taken for another's, and be remembered as such.
func (l *Loop) covers(clones map[*generation]*reaper.Family) bool {
	for _, g := range l.generations {
		if _, ok := clones[g]; !ok && g.family != nil {
			return false
		}
	}
	return true
}

// tellSeen tells all who have asked.
func (l *Loop) tellSeen(s seen, asked []func(seen), left bool) {
	for _, then := range asked {
		if l.exit == nil {
			then(s)
		}
	}
	if left && l.exit == nil {
		l.seeLeft(s)
	}
	l.publish()
}

// of returns the processes of a generation, as far as there is a /proc to see them. An error is a shortage, which may pass:
// whoever would take a process that it does not see for one that is gone must wait.
func (s seen) of(g *generation) ([]reaper.Process, error) {
	switch {
	case errors.Is(s.err, reaper.ErrNoProc):
		return known(g), nil
	case s.err != nil:
		return nil, s.err
	}
	return s.members[g], nil
}

// ofAny returns the processes of a generation; where /proc cannot be read only the main one is known.
func (s seen) ofAny(g *generation) []reaper.Process {
	members, err := s.of(g)
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

// censusNow is for who may wait: the loop that has ended, when nobody waits for it any more.
func (l *Loop) censusNow() seen {
	found, err := l.reaper.Census(l.families())
	s := seen{err: err, members: make(map[*generation][]reaper.Process, len(l.generations))}
	for _, g := range l.generations {
		if g.family != nil {
			s.members[g] = found[g.family]
		}
	}
	return s
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
