package handoff

import (
	"maps"
	"syscall"
	"time"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

// records is what the loop keeps only to tell of it: nothing is decided by it.
type records struct {
	started   time.Time
	counters  status.Counters
	current   *status.Handoff
	since     time.Time // when the current handoff's phase began
	triggered time.Time // when the trigger came that the next handoff answers
	recent    []status.Handoff
	gone      []status.Generation
	told      *status.Telling // the watch action that ended last
	rejected  string          // the hash of the watched content with which the last attempt failed; "" = it did not
}

const (
	recentHandoffs    = 20
	recentGenerations = 5
)

func newRecords(now time.Time) records {
	return records{started: now, recent: []status.Handoff{}, counters: status.Counters{
		Handoffs:         map[status.HandoffKey]uint64{},
		PhaseSeconds:     map[status.Phase]status.Histogram{},
		SignalsForwarded: map[string]uint64{},
		WatchActions:     map[string]uint64{},
	}}
}

// The maps are cloned because a published snapshot may hold them.

func (r *records) forwarded(s syscall.Signal) {
	r.counters.SignalsForwarded = maps.Clone(r.counters.SignalsForwarded)
	r.counters.SignalsForwarded[reaper.SignalName(s)]++
}

func (r *records) handoffEnded(h status.Handoff) {
	r.counters.Handoffs = maps.Clone(r.counters.Handoffs)
	r.counters.Handoffs[status.HandoffKey{Trigger: h.Trigger, Result: h.Result}]++
	r.recent = append(r.recent[max(0, len(r.recent)-recentHandoffs+1):len(r.recent):len(r.recent)], h)
}

// tried notes what came of the watched content with this hash.
func (r *records) tried(hash, result string) {
	switch result {
	case status.Completed:
		r.rejected = ""
	case status.FailedHandoff:
		r.rejected = hash
	}
}

func (r *records) phaseEnded(p status.Phase, d time.Duration) {
	r.counters.PhaseSeconds = maps.Clone(r.counters.PhaseSeconds)
	r.counters.PhaseSeconds[p] = r.counters.PhaseSeconds[p].Observe(d.Seconds())
}

// phases maps a handoff's stages to the words in which they are told.
func phase(s machine.Stage) status.Phase {
	switch s {
	case machine.Checking:
		return status.PhaseCheck
	case machine.Stopping:
		return status.PhaseDrain
	case machine.Measuring, machine.Starting:
		return status.PhaseStart
	case machine.Proving:
		return status.PhaseProve
	case machine.Turning, machine.TurningBack:
		return status.PhaseCutover
	case machine.Soaking:
		return status.PhaseSoak
	case machine.Settling:
		return status.PhaseSettle
	}
	return ""
}

// observe notes and logs what a step has changed.
func (l *Loop) observe(e machine.Event, before machine.Machine) {
	r := &l.records
	now := l.now()
	asked := l.machine.Tickets != before.Tickets
	if asked && before.Pending == "" {
		r.triggered = now
	}
	if asked && l.machine.Pending != "" {
		l.log.Info("trigger remembered: one more handoff will follow", "trigger", e.Why)
	}
	if e.Kind == machine.Changed && l.machine.News {
		l.log.Info("change remembered: one more watch action will follow, or a handoff that knows of it")
	}
	if was, is := before.Handoff.Stage, l.machine.Handoff.Stage; was != is && r.current != nil {
		d := now.Sub(r.since)
		r.since = now
		r.phaseEnded(phase(was), d)
		seconds := maps.Clone(r.current.Seconds)
		if seconds == nil {
			seconds = map[status.Phase]float64{}
		}
		seconds[phase(was)] += d.Seconds()
		r.current.Seconds, r.current.Phase = seconds, phase(is)
	}
	for _, is := range l.machine.Gens {
		if was, ok := before.Generation(is.Number); ok {
			l.observeGeneration(was, is, now)
		}
	}
	if before.Ending != l.machine.Ending && l.machine.Ending == machine.Delaying {
		l.log.Info("serving on for the shutdown delay, not ready any more", "delay", l.o.ShutdownDelay)
	}
}

func (l *Loop) observeGeneration(was, is machine.Generation, now time.Time) {
	g, ok := l.generations[is.Number]
	if !ok {
		return
	}
	if !was.Proven && is.Proven {
		g.record.ProvenAt = now
		g.provenPorts = l.portsOf(g.number)
		l.log.Info("generation proven", "generation", is.Number, "after", now.Sub(g.record.Started).Round(time.Microsecond))
	}
	if was.State == is.State {
		return
	}
	if is.State == status.Live {
		g.record.LiveAt = now
		for _, p := range l.portsOf(is.Number) {
			l.watchIdle(p) // its sockets are others now
		}
	}
	l.log.Info("generation "+string(is.State), "generation", is.Number)
}

func (l *Loop) began(a machine.Action) {
	r := &l.records
	now := l.now()
	if a.Reason == "restart" {
		r.triggered = now
	}
	r.current = &status.Handoff{
		Trigger: a.Reason, From: a.From, Triggered: r.triggered, Phase: phase(l.machine.Handoff.Stage),
	}
	r.since = now
	l.log.Info("handoff began", "trigger", a.Reason, "from", a.From)
}

// why returns what has caused the generation that is being started.
func (l *Loop) why() string {
	if l.records.current == nil {
		return "start"
	}
	return l.records.current.Trigger
}

func (l *Loop) decided(a machine.Action) {
	r := &l.records
	l.answer(waiterResult{a.Result, a.Reason}, a.Through)
	h := r.current
	if h == nil {
		return
	}
	r.current = nil
	h.To, h.Result, h.Reason, h.Phase = a.Gen, a.Result, a.Reason, ""
	h.Ended = l.now()
	if g, ok := l.generations[a.Gen]; ok {
		h.CutoverAt = g.record.LiveAt
		h.TurnedBack = a.Result == status.FailedHandoff && !g.record.LiveAt.IsZero() && l.machine.Live != a.Gen
		if a.Result != status.Completed {
			g.record.Detail = a.Reason
		}
	}
	r.handoffEnded(*h)
	r.tried(h.ConfigHash, a.Result)
	log := l.log.Info
	if a.Result == status.FailedHandoff {
		log = l.log.Error
	}
	log("handoff "+a.Result, "trigger", h.Trigger, "from", h.From, "generation", a.Gen, "config", h.ConfigHash, "reason", a.Reason,
		"after", h.Ended.Sub(h.Triggered).Round(time.Microsecond))
}

// goneRecord notes the end of a generation.
func (l *Loop) goneRecord(g *generation) {
	r := &l.records
	now := l.now()
	g.record.GoneAt, g.record.State, g.record.Processes = now, status.Gone, 0
	if !g.record.StoppedAt.IsZero() && !g.record.LiveAt.IsZero() {
		r.phaseEnded(status.PhaseDrain, now.Sub(g.record.StoppedAt))
	}
	r.gone = append(r.gone[max(0, len(r.gone)-recentGenerations+1):len(r.gone):len(r.gone)], g.record)
	if l.o.AtRest != nil && l.machine.Handoff.Stage == machine.None {
		go l.o.AtRest()
	}
	l.log.Info("generation gone", "generation", g.number, "exit", g.record.Exit, "after", now.Sub(g.record.Started).Round(time.Millisecond))
}
