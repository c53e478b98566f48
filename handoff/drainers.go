package handoff

import (
	"sync"
	"time"

	"holdfast/handoff/status"
	"holdfast/reaper"
)

// drainer is a generation that drains, as others than the loop may look into it.
type drainer struct {
	generation int
	family     *reaper.Family
	ports      map[uint64]bool
}

// counts is what was counted last. It is for those that ask, never for the loop.
type counts struct {
	mu    sync.Mutex
	at    time.Time
	last  []status.Connections
	under bool // a count is under way
}

// countAgain is how old a count may be. It reads all of /proc: a crowd of askers must not make it more often.
const countAgain = time.Second

// drainersNow makes what Connections reads; nil when nothing drains, which costs nothing. Every family is needed, to tell
// whose a process is; those of generations that do not drain have no ports.
func (l *Loop) drainersNow() *[]drainer {
	draining := false
	for _, g := range l.machine.Gens {
		draining = draining || g.State == status.Draining
	}
	if !draining {
		return nil
	}
	ports := l.tcpPorts()
	var all []drainer
	for _, state := range l.machine.Gens {
		g, ok := l.generations[state.Number]
		if !ok || g.family == nil {
			continue
		}
		d := drainer{generation: g.number, family: g.family.Clone()}
		if state.State == status.Draining {
			d.ports = ports
		}
		all = append(all, d)
	}
	return &all
}

// Connections counts the established connections that each draining generation has to held TCP ports. It reads /proc and
// does not ask the loop; a count that is a second old, or still under way, is answered with the last one.
func (l *Loop) Connections() []status.Connections {
	all := l.drainers.Load()
	if all == nil {
		return nil
	}
	c := &l.counts
	c.mu.Lock()
	if c.under || l.now().Sub(c.at) < countAgain {
		defer c.mu.Unlock()
		return stillDraining(c.last, *all)
	}
	c.under = true
	c.mu.Unlock()

	counted := l.count(*all)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.under, c.at, c.last = false, l.now(), counted
	return counted
}

// count is not told of a generation whose processes may not be looked into: what is not known is left out.
func (l *Loop) count(all []drainer) []status.Connections {
	families := make([]*reaper.Family, 0, len(all))
	for _, d := range all {
		families = append(families, d.family.Clone())
	}
	census, err := l.reaper.Census(families)
	if err != nil {
		return nil
	}
	var counted []status.Connections
	for i, d := range all {
		if d.ports == nil {
			continue
		}
		if n, err := connections(d.ports, census[families[i]]); err == nil {
			counted = append(counted, status.Connections{Generation: d.generation, Established: n})
		}
	}
	return counted
}

func stillDraining(last []status.Connections, all []drainer) []status.Connections {
	var still []status.Connections
	for _, c := range last {
		for _, d := range all {
			if d.generation == c.Generation && d.ports != nil {
				still = append(still, c)
			}
		}
	}
	return still
}
