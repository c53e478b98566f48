package handoff

import (
	"fmt"
	"slices"

	"holdfast/handoff/port"
)

// overlapping are the addresses of the held ports that overlap spec without being it. For the kernel each is a group of
// its own, between which no switch turns.
func (l *Loop) overlapping(spec port.Spec) []port.Spec {
	var others []port.Spec
	for _, p := range l.near[placeOf(spec)] {
		if p.Spec().Overlaps(spec) {
			others = append(others, p.Spec())
		}
	}
	return others
}

// A place is what two addresses have in common if one overlaps the other.
type place struct {
	network string
	number  uint16
}

func placeOf(spec port.Spec) place { return place{spec.Network, spec.Addr.Port()} }

// overlapsOwn says whether the generation has a port that overlaps spec already: then the kernel may have its say about
// whether that is in use.
func (l *Loop) overlapsOwn(n int, spec port.Spec) bool {
	return slices.ContainsFunc(l.near[placeOf(spec)], func(p *port.Port) bool {
		_, has := p.FD(n)
		return has && p.Spec().Overlaps(spec)
	})
}

// heir is the port to which the live generation has moved from p, on which generation n listens: it covers p. nil = none.
func (l *Loop) heir(n int, p *port.Port) *port.Port {
	live := l.machine.Live
	if n == live || p.Live() != n {
		return nil
	}
	for _, q := range l.near[placeOf(p.Spec())] {
		if q != p && q.Live() == live && q.Spec().Covers(p.Spec()) {
			return q
		}
	}
	return nil
}

// yield turns over what the switch can't: the ports of an old generation that the live one covers with others of its own.
func (l *Loop) yield(g *generation) {
	for _, p := range l.portsOf(g.number) {
		heir := l.heir(g.number, p)
		if heir == nil {
			continue
		}
		if err := p.Yield(g.number, heir); err != nil {
			l.log.Warn("connections go to the old generation until it is gone, and what is queued then is lost", "port", p.Spec(), "generation", g.number, "err", err)
			continue
		}
		l.log.Info("port given up to one that covers it", "port", p.Spec(), "generation", g.number, "to", heir.Spec())
	}
}

// overlapWarnings say which ports are not handed over by the switch.
func (l *Loop) overlapWarnings() []string {
	var all []string
	for _, p := range l.ports {
		n := p.Live()
		if n == l.machine.Live {
			continue // the other one is told of
		}
		if to, yielded := p.Yielded(); yielded {
			all = append(all, fmt.Sprintf("%s of generation %d has been given up to %s, which covers it: the kernel knows no switch between them, "+
				"so that the cutover here is the retirement of the old socket, and what is queued on it is relayed", p.Spec(), n, to))
			continue
		}
		for _, other := range l.overlapping(p.Spec()) {
			all = append(all, fmt.Sprintf("%s of generation %d overlaps %s: the kernel knows no switch between them, "+
				"so that the cutover here is the retirement of the old socket", p.Spec(), n, other))
		}
	}
	return all
}

func (l *Loop) overlapNames(spec port.Spec) (names []string) {
	for _, other := range l.overlapping(spec) {
		names = append(names, other.String())
	}
	return names
}
