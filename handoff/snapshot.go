package handoff

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/status"
)

// Snapshot returns what the loop has published last, with what the watcher knows now (a change on disk is none of the
// loop's business before its quiet time is over, but who asks should see it) and what has been relayed by now, of which
// the loop hears nothing. It is never nil.
func (l *Loop) Snapshot() *status.Snapshot {
	now := *l.snapshot.Load()
	now.Counters.Relayed = max(now.Counters.Relayed, l.relayed())
	if l.o.Watch == nil {
		return &now
	}
	now.Warnings = append(l.o.Watch.Warnings(), now.Warnings...)
	now.ConfigLatest = l.o.Watch.Hash()
	if now.ConfigRejected != now.ConfigLatest || now.ConfigHash == now.ConfigLatest {
		now.ConfigRejected = ""
	}
	return &now
}

// relayed counts the stragglers of all ports that have ever been held.
func (l *Loop) relayed() uint64 {
	n := l.relayedBefore.Load()
	for _, p := range l.allPorts() {
		n += p.Relayed()
	}
	return n
}

// Next returns a channel that is closed when there is another snapshot than the one that Snapshot returns after the call.
func (l *Loop) Next() <-chan struct{} { return *l.next.Load() }

// Queues reads the accept queues now. It waits for nothing.
func (l *Loop) Queues() []status.Queue {
	var queues []status.Queue
	for _, p := range l.allPorts() {
		for _, q := range p.Queues() {
			queues = append(queues, status.Queue{Port: p.String(), Generation: q.Generation, Length: q.Length, Max: q.Max})
		}
	}
	return queues
}

// publish makes the present state the snapshot that everybody else reads.
func (l *Loop) publish() {
	m, r := l.machine, &l.records
	s := &status.Snapshot{
		Version: l.o.Version, PID: l.reaper.PID(), Started: r.started.UTC(), At: l.now().UTC(), Command: l.public,
		Live:        m.Serving(),
		Ready:       l.readiness(),
		Terminating: m.Ending != machine.NotEnding,
		Recent:      r.recent,
		Pending:     m.Pending != "",
		Watch:       l.o.WatchPaths,
		Counters:    r.counters,

		ConfigRejected: r.rejected,
	}
	s.Counters.Reaped, s.Counters.Relayed = l.reaper.Reaped(), l.relayed()
	s.Ports = slices.Grow(s.Ports, len(l.ports))
	for _, p := range l.ports {
		s.Ports = append(s.Ports, l.portStatus(p))
	}
	if m.Config.Tell {
		s.WatchAction = &status.WatchAction{Do: l.o.WatchAction.Text, Last: r.told}
		if l.telling != nil {
			now := l.telling.record
			s.WatchAction.Now = &now
		}
	}
	s.Generations = l.generationRecords()
	if g, ok := l.generations[m.Live]; ok {
		s.ConfigHash = g.record.ConfigHash
	}
	if h := r.current; h != nil {
		current := *h
		current.To = m.Handoff.To
		if g, ok := l.generations[current.To]; ok {
			current.CutoverAt = g.record.LiveAt
		}
		s.Handoff = &current
	}
	if n := len(r.recent); n > 0 {
		s.Last = &r.recent[n-1]
	}
	if l.tight != "" {
		s.Warnings = append(s.Warnings, l.tight)
	}
	s.Warnings = append(s.Warnings, l.deafWarnings()...)
	s.Warnings = append(s.Warnings, l.overlapWarnings()...)
	for _, p := range s.Ports {
		if p.Switch == "shared" && !l.o.Sequential {
			s.Warnings = append(s.Warnings, p.Port+": this kernel cannot steer; all generations share one socket, so that a generation's own shutdown decides what it loses")
		}
	}
	l.drainers.Store(l.drainersNow())
	l.publishThis(s)
}

// publishHeld is publish for when nothing has happened but that a port is held now.
func (l *Loop) publishHeld(p *port.Port) {
	alone := len(l.near[placeOf(p.Spec())]) == 1 && p.Kind() != port.Shared
	if !alone || l.drainers.Load() != nil {
		l.publish() // other ports, warnings or what can be asked of those that drain are not the same as before
		return
	}
	s := *l.snapshot.Load()
	s.At = l.now().UTC()
	s.Ports = append(s.Ports, l.portStatus(p)) // who has the last snapshot has a shorter slice, in which nothing changes
	l.publishThis(&s)
}

func (l *Loop) publishThis(s *status.Snapshot) {
	l.snapshot.Store(s)
	l.changed() // after whatever it was
	next := make(chan struct{})
	if before := l.next.Swap(&next); before != nil {
		close(*before)
	}
}

func (l *Loop) portStatus(p *port.Port) status.Port {
	return status.Port{
		Name: p.Spec().Name, Port: p.String(), Switch: p.Kind(), Live: p.Live(), Cutover: p.CutoverAt().UTC(),
		Generations: l.holders(p), Overlaps: l.overlapNames(p.Spec()),
	}
}

// holders lists the generations that have a socket on a port.
func (l *Loop) holders(p *port.Port) []int {
	holders := []int{}
	for _, g := range l.machine.Gens {
		if _, has := p.FD(g.Number); has {
			holders = append(holders, g.Number)
		}
	}
	return holders
}

// generationRecords lists the generations that are not gone, oldest first, then the last few that are.
func (l *Loop) generationRecords() []status.Generation {
	records := make([]status.Generation, 0, len(l.generations)+len(l.records.gone))
	for _, state := range l.machine.Gens {
		g, ok := l.generations[state.Number]
		if !ok {
			continue
		}
		record := g.record
		record.State, record.Proven = state.State, state.Proven
		if record.PID = g.pid; g.mainGone {
			record.PID = 0
		}
		records = append(records, record)
	}
	slices.SortFunc(records, func(a, b status.Generation) int { return cmp.Compare(a.Number, b.Number) })
	return append(records, l.records.gone...)
}

func (l *Loop) readiness() (r status.Readiness) {
	m := l.machine
	switch live, ok := m.Generation(m.Live); {
	case m.Ending == machine.Exited:
		r.Live = "holdfast has exited"
	case !ok:
		r.Live = "no generation has been started"
	case live.MainGone:
		r.Live = fmt.Sprintf("no live generation: generation %d has exited", m.Live)
	case !live.Proven:
		r.Live = fmt.Sprintf("generation %d has not shown yet that it is ready", m.Live)
		if g, ok := l.generations[m.Live]; ok && g.record.Detail != "" {
			r.Live += ": " + g.record.Detail
		}
	}
	if m.InFlight() {
		r.Handoff = l.inFlight()
	}
	if m.Ending != machine.NotEnding {
		r.Shutdown = "holdfast is terminating"
	}
	return r
}

func (l *Loop) inFlight() string {
	m := l.machine
	switch {
	case m.Handoff.Stage == machine.None && m.Confirming:
		return fmt.Sprintf("the last handoff failed, and generation %d has not shown again yet that it is ready", m.Live)
	case m.Telling.Stage != machine.NoTell:
		return "a handoff waits for the watch action to end"
	case m.Handoff.Stage == machine.None || m.Handoff.Stage == machine.Settling || m.Handoff.Stage == machine.Soaking:
		return "a handoff waits for the one before it to end"
	}
	since := ""
	if h := l.records.current; h != nil {
		since = " since " + h.Triggered.UTC().Format(time.TimeOnly)
	}
	return fmt.Sprintf("a handoff from generation %d is %s%s", m.Handoff.From, m.Handoff.Stage, since)
}
