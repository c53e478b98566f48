package machine

import "holdfast/handoff/status"

// Headroom says what happens where a second generation would not fit the memory limit.
type Headroom int

// The values of Config.Headroom.
const (
	HeadroomOff        Headroom = iota // nobody looks
	HeadroomWarn                       // the handoff goes on all the same
	HeadroomRefuse                     // it fails, before anything is started
	HeadroomSequential                 // this one stops the old generation first
)

// measure finds out whether there is room for a second generation beside the live one, where that is asked for.
func (s *step) measure() {
	if s.Config.Headroom == HeadroomOff || s.Config.Sequential {
		s.launch()
		return
	}
	s.Handoff.Stage = Measuring
	s.do(Action{Kind: Measure, Gen: s.Live})
}

// measured goes on with the handoff; tight says that there is no room, for a reason.
func (s *step) measured(tight bool, reason string) {
	if s.Handoff.Stage != Measuring {
		return
	}
	switch {
	case tight && s.Config.Headroom == HeadroomRefuse:
		s.decide(status.FailedHandoff, reason)
		s.confirm()
		return
	case tight && s.Config.Headroom == HeadroomSequential:
		s.Handoff.Sequential = true
	}
	s.launch()
}
