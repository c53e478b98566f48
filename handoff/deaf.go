package handoff

import (
	"fmt"
	"slices"

	"holdfast/handoff/port"
	"holdfast/handoff/status"
)

// deaf takes note of a program that hears nothing on a socket that took the place of its own: it had put that into an epoll
// set, which goes on watching what is not there any more.
func (l *Loop) deaf(g *generation, spec port.Spec) {
	if slices.ContainsFunc(g.deafOn, func(other port.Spec) bool { return other.String() == spec.String() }) {
		return
	}
	g.deafOn = append(g.deafOn, spec)
	if !l.warnedDeaf {
		l.warnedDeaf = true
		l.log.Warn(deafness, "port", spec, "generation", g.number)
	}
	l.publish()
}

const deafness = "the program watched its socket (epoll) before it bound it, and will not hear of connections: run holdfast with --takeover-at socket"

// deafWarnings is what the status says of the generations that still are.
func (l *Loop) deafWarnings() (all []string) {
	for _, g := range l.generations {
		if state, ok := l.machine.Generation(g.number); !ok || state.State == status.Gone {
			continue
		}
		for _, spec := range g.deafOn {
			all = append(all, fmt.Sprintf("%s: generation %d: %s", spec, g.number, deafness))
		}
	}
	slices.Sort(all)
	return all
}
