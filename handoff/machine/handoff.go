package machine

import (
	"fmt"

	"holdfast/handoff/status"
)

// trigger takes note that a handoff was asked for: it is never lost, and never more than one handoff behind.
func (s *step) trigger(why string) {
	s.Tickets++
	if s.Ending != NotEnding {
		s.do(Action{Kind: Decided, Result: status.Abandoned, Reason: "holdfast is terminating", Through: s.Tickets})
		return
	}
	if s.Pending == "" {
		s.Pending = why
	}
}

// next begins the handoff that a trigger asked for, or what the live generation is to be told, as soon as it can begin.
func (s *step) next() {
	if s.Pending == "" && !s.News || s.Handoff.Stage != None || s.Ending != NotEnding {
		return
	}
	live := s.gen(s.Live)
	switch {
	case live == nil:
	case s.Backoff:
		if s.Pending != "" {
			s.restart(s.Pending)
		}
	case !live.Proven && !s.Overdue, s.Telling.Stage == TellRun: // a command that tells it is not cut off half-way
	case s.Pending != "":
		s.begin()
	case s.Telling.Stage == NoTell:
		s.beginTell()
	}
}

func (s *step) begin() {
	if s.Telling.Stage == TellCheck {
		s.News = true // in case the handoff fails
	}
	s.stopTell(status.Abandoned, "a handoff was asked for meanwhile")
	s.Handoff = Handoff{Why: s.Pending, From: s.Live, Through: s.Tickets}
	s.Pending = ""
	if s.Confirming {
		s.Confirming = false
		s.do(Action{Kind: StopProve, Gen: s.Live})
	}
	s.do(Action{Kind: Began, From: s.Live, Reason: s.Handoff.Why})
	if s.Config.Check {
		s.Handoff.Stage = Checking
		s.do(Action{Kind: RunCheck})
		return
	}
	s.measure()
}

// launch starts the new generation, or, with the sequential strategy, ends the old one first.
func (s *step) launch() {
	if s.Config.Sequential || s.Handoff.Sequential {
		old := s.gen(s.Live)
		old.State, old.Stopped = status.Draining, true
		s.Handoff.Stage = Stopping
		s.disarm(ReadyTimer, s.Live)
		s.do(Action{Kind: StopProve, Gen: s.Live}, Action{Kind: Stop, Gen: s.Live})
		s.bound(s.Live)
		return
	}
	n := s.add(status.Starting)
	s.Handoff.Stage, s.Handoff.To = Starting, n
	s.Handoff.News, s.News = s.News, false
	s.do(Action{Kind: Start, Gen: n})
	s.arm(ReadyTimer, n)
}

// fail ends a handoff whose new generation no user has seen.
func (s *step) fail(n int, reason string) {
	s.abandon(n)
	s.decide(status.FailedHandoff, reason)
	if live := s.gen(s.Live); live.MainGone {
		// It was kept waiting for the one that has now failed.
		s.restartOrExit(Event{Gen: s.Live, Code: live.Code, Reason: reason})
		if s.Ending == NotEnding {
			s.leftovers(s.Live)
		}
		return
	}
	s.confirm()
}

// abandon stops a generation that is not to become live.
func (s *step) abandon(n int) {
	g := s.gen(n)
	g.State = status.Failed
	s.do(Action{Kind: StopProve, Gen: n})
	s.disarm(ReadyTimer, n)
	s.stop(n)
}

// confirm has the live generation show, after a failure, that it is still ready.
func (s *step) confirm() {
	if live := s.gen(s.Live); live.Proven && !live.MainGone {
		s.Confirming = true
		s.do(Action{Kind: Prove, Gen: s.Live})
	}
}

func (s *step) cutoverDone(n int) {
	h := s.Handoff
	switch {
	case h.Stage == Turning && h.To == n:
		old, g := s.gen(h.From), s.gen(n)
		old.State, g.State = status.Draining, status.Live
		s.Live, s.Overdue = n, false
		s.disarm(ReadyTimer, old.Number)
		if !old.Proven {
			s.do(Action{Kind: StopProve, Gen: old.Number})
		}
		switch {
		case old.MainGone:
			s.do(Action{Kind: Relay, Gen: old.Number})
			s.complete()
			s.leftovers(h.From)
		case s.Config.Soak:
			s.Handoff.Stage = Soaking
			s.do(Action{Kind: Recheck, Gen: n})
			s.arm(SoakTimer, n)
		default:
			s.settle()
		}
	case h.Stage == TurningBack && h.From == n:
		s.turnedBack()
	}
}

func (s *step) cutoverFailed(e Event) {
	h := s.Handoff
	switch {
	case h.Stage == Turning && h.To == e.Gen:
		s.fail(e.Gen, e.Reason)
	case h.Stage == TurningBack && h.From == e.Gen:
		// The kernel has turned this switch before; there is no second way back.
		reason := h.Reason + "; and the switch does not turn back: " + e.Reason
		s.decide(status.FailedHandoff, reason)
		s.stopOld(h.From)
		s.bound(h.From)
		if live := s.gen(s.Live); live.MainGone {
			live.State = status.Draining
			s.restartOrExit(Event{Gen: s.Live, Code: live.Code, Reason: reason})
			return
		}
		s.confirm()
	}
}

// settle has the old generation accept what was queued for it before the cutover.
func (s *step) settle() {
	s.Handoff.Stage = Settling
	old := s.gen(s.Handoff.From)
	old.Settling = true
	s.do(Action{Kind: Settle, Gen: old.Number})
}

func (s *step) settled(n int) {
	g := s.gen(n)
	if !g.Settling {
		return
	}
	g.Settling = false
	if s.Handoff.Stage == Settling && s.Handoff.From == n {
		s.complete()
	}
}

// complete ends a handoff well: from here on the old generation drains.
func (s *step) complete() {
	old := s.gen(s.Handoff.From)
	s.decide(status.Completed, "")
	switch {
	case old.Empty:
		s.gone(old.Number)
	case old.MainGone: // nothing that could accept; its leftovers are told apart
	case s.Config.WaitConnections:
		s.arm(WaitTimer, old.Number)
		s.bound(old.Number)
		s.do(Action{Kind: AwaitConns, Gen: old.Number})
	default:
		s.stop(old.Number)
	}
}

// stopOld sends the stop signal that --drain-wait-connections had held back.
func (s *step) stopOld(n int) {
	g := s.gen(n)
	if g.State != status.Draining || g.Stopped || n == s.Live {
		return
	}
	g.Stopped = true
	s.disarm(WaitTimer, n)
	s.do(Action{Kind: Relay, Gen: n}, Action{Kind: Stop, Gen: n})
}

// stop sends the stop signal to a generation that is not live, and bounds what it may take.
func (s *step) stop(n int) {
	g := s.gen(n)
	if g.Stopped || g.MainGone { // what a main process has left behind is told apart
		return
	}
	g.Stopped = true
	if g.State == status.Draining {
		s.do(Action{Kind: Relay, Gen: n})
	}
	s.do(Action{Kind: Stop, Gen: n})
	s.bound(n)
}

// turnBack ends a handoff whose new generation failed after its cutover, while the old one is still whole.
func (s *step) turnBack(reason string) {
	h := &s.Handoff
	s.gen(h.From).Settling = false
	s.do(Action{Kind: StopProve, Gen: h.To})
	s.disarm(SoakTimer, h.To)
	h.Stage, h.Reason = TurningBack, reason
	s.do(Action{Kind: Cutover, Gen: h.From, From: h.To})
}

func (s *step) turnedBack() {
	h := s.Handoff
	old, g := s.gen(h.From), s.gen(h.To)
	old.State, g.State = status.Live, status.Failed
	s.Live = h.From
	s.do(Action{Kind: Relay, Gen: h.To}) // what had reached the failed one's queue
	s.decide(status.FailedHandoff, "turned back: "+h.Reason)
	if g.Empty {
		s.gone(h.To)
	} else {
		s.stop(h.To)
	}
	if old := s.gen(h.From); !old.Proven {
		s.Overdue = true
		s.do(Action{Kind: Prove, Gen: h.From})
	}
	s.confirm()
}

// decide ends the handoff with an outcome. If it did not complete, the live generation is still to be told what the new
// one would have known.
func (s *step) decide(result, reason string) {
	s.News = s.News || s.Handoff.News && result != status.Completed
	s.do(Action{Kind: Decided, Gen: s.Handoff.To, Result: result, Reason: reason, Through: s.Handoff.Through})
	s.Handoff = Handoff{}
}

// trim kills the oldest generations that are on their way out when there are more than the limit: of those that drain, and
// apart from them, since nobody's connections should be cut for their sake, of those that have failed. One that might have
// to take everything back does not count yet.
func (s *step) trim(state status.State, do string) {
	var out []int
	for _, g := range s.Gens {
		if g.State == state && !g.Killed && g.Number != s.Handoff.From {
			out = append(out, g.Number)
		}
	}
	for len(out) > s.Config.MaxDraining {
		s.kill(out[0], fmt.Sprintf("more old generations %s than --max-draining %d allows", do, s.Config.MaxDraining))
		out = out[1:]
	}
}
