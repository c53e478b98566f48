package machine

import (
	"slices"

	"holdfast/handoff/status"
)

// Step returns the state after e and what is to be done, in order. It changes nothing of m.
func (m Machine) Step(e Event) (Machine, []Action) {
	if m.Ending == Exited {
		return m, nil
	}
	m.Gens = slices.Clone(m.Gens)
	s := step{Machine: m}
	s.take(e)
	return s.Machine, s.actions
}

// step is one Step under way: the state as it is becoming, and the actions so far.
type step struct {
	Machine
	actions []Action
}

func (s *step) take(e Event) {
	switch e.Kind {
	case Boot:
		s.startServing(0)
	case Trigger:
		s.trigger(e.Why)
	case Changed:
		s.changed(e.Why)
	case CheckPassed:
		switch {
		case s.Handoff.Stage == Checking:
			s.measure()
		case s.Telling.Stage == TellCheck:
			s.tell()
		}
	case CheckFailed:
		switch {
		case s.Handoff.Stage == Checking:
			s.decide(status.FailedHandoff, e.Reason)
			s.confirm()
		case s.Telling.Stage == TellCheck:
			s.endTell(status.FailedHandoff, e.Reason)
		}
	case Terminate:
		s.terminate()
	case Interrupt:
		s.interrupt(e.Signal)
	case Signal:
		if n := s.Serving(); n != 0 {
			s.do(Action{Kind: Forward, Gen: n, Signal: e.Signal})
		}
	case Fired:
		s.fired(e)
	default:
		if s.gen(e.Gen) != nil {
			s.ofGeneration(e)
		}
	}
	if s.Ending == NotEnding {
		s.trim(status.Draining, "drain")
		s.trim(status.Failed, "fail to end")
	}
	s.next()
}

func (s *step) ofGeneration(e Event) {
	switch e.Kind {
	case StartFailed:
		g := s.gen(e.Gen)
		g.MainGone, g.Empty, g.Code = true, true, e.Code
		s.mainGone(e)
		s.emptied(e.Gen)
	case Executed:
		s.executed(e.Gen)
	case Proven:
		s.proven(e.Gen)
	case Unready:
		if s.Handoff.Stage == Soaking && s.Handoff.To == e.Gen {
			s.turnBack(e.Reason)
		}
	case CutoverDone:
		s.cutoverDone(e.Gen)
	case CutoverFailed:
		s.cutoverFailed(e)
	case MainExited:
		s.mainExited(e)
	case Emptied:
		s.emptied(e.Gen)
	case Settled:
		s.settled(e.Gen)
	case ConnectionsGone:
		s.stopOld(e.Gen)
	case Fits, Tight:
		s.measured(e.Kind == Tight, e.Reason)
	case Told:
		s.told(e.Gen)
	case TellFailed:
		if s.Telling == (Telling{TellRun, e.Gen}) {
			s.endTell(status.FailedHandoff, e.Reason)
		}
	}
}

func (s *step) fired(e Event) {
	switch e.Timer {
	case BackoffTimer:
		if s.Backoff {
			s.restart("restart")
		}
		return
	case ShutdownTimer:
		if s.Ending == Delaying {
			s.stopAll()
		}
		return
	case GraceTimer:
		s.graceOver()
		return
	case InterruptTimer:
		s.Interrupted = false
		return
	}
	if s.gen(e.Gen) == nil {
		return
	}
	switch e.Timer {
	case ReadyTimer:
		s.notReadyInTime(e)
	case SoakTimer:
		if s.Handoff.Stage == Soaking && s.Handoff.To == e.Gen {
			s.do(Action{Kind: StopProve, Gen: e.Gen})
			s.settle()
		}
	case TellTimer:
		s.tellSettled(e.Gen)
	case WaitTimer:
		s.stopOld(e.Gen)
	case DrainTimer:
		s.kill(e.Gen, "its drain timeout is over")
	}
}

// startServing starts a generation that is live from its start, since nothing else could serve: the first one, one after
// a crash, and every one with the sequential strategy. It gets from's sockets, with what is queued on them.
func (s *step) startServing(from int) int {
	n := s.add(status.Live)
	s.Live, s.Overdue = n, false
	s.News = false // it starts from what is there now
	s.do(Action{Kind: Start, Gen: n, From: from})
	s.arm(ReadyTimer, n)
	if old := s.gen(from); old != nil {
		old.State = status.Draining
		if old.Empty {
			s.gone(from)
		}
	}
	return n
}

func (s *step) executed(n int) {
	g := s.gen(n)
	g.Executed = true
	if s.Handoff.Stage == Starting && s.Handoff.To == n {
		s.Handoff.Stage = Proving
	}
	switch {
	case s.Ending == Ended || g.Stopped || g.Proven:
		return
	case g.State == status.Starting:
		g.State = status.Proving
		s.do(Action{Kind: Prove, Gen: n})
	case g.State == status.Live:
		s.do(Action{Kind: Prove, Gen: n})
	}
}

func (s *step) proven(n int) {
	g := s.gen(n)
	if s.Telling == (Telling{TellProve, n}) {
		s.disarm(ReadyTimer, n)
		s.endTell(status.Completed, "")
	}
	switch {
	case g.State == status.Proving && s.Handoff.Stage == Proving && s.Handoff.To == n:
		g.Proven = true
		s.disarm(ReadyTimer, n)
		s.Handoff.Stage = Turning
		s.do(Action{Kind: Cutover, Gen: n, From: s.Live})
	case g.State == status.Live && !g.Proven:
		g.Proven = true
		s.disarm(ReadyTimer, n)
		s.Overdue = false
		if s.Handoff.To == n {
			s.decide(status.Completed, "")
		}
	case n == s.Live:
		s.Confirming = false
	}
}

func (s *step) notReadyInTime(e Event) {
	g := s.gen(e.Gen)
	switch {
	case s.Telling == (Telling{TellProve, e.Gen}):
		s.tellNotReadyInTime(e.Reason)
	case g.Proven:
	case g.State == status.Live:
		// Nothing else could serve, so it stays; but whoever mends the configuration must get a new generation.
		if g.Executed && !s.Overdue {
			s.do(Action{Kind: Prove, Gen: e.Gen})
		}
		s.Overdue = true
		if s.Handoff.To == e.Gen {
			s.decide(status.FailedHandoff, e.Reason)
		}
	case s.Handoff.To == e.Gen:
		s.fail(e.Gen, e.Reason)
	}
}

func (s *step) mainExited(e Event) {
	g := s.gen(e.Gen)
	if g.MainGone {
		return
	}
	g.MainGone, g.Code = true, e.Code
	before := s.Ending
	s.mainGone(e)
	told := s.Ending == Exited || s.Ending == Ended && before != Ended // by stopAll
	if !told && !s.nextOnItsWay(e.Gen) {
		s.leftovers(e.Gen)
	}
}

// nextOnItsWay says whether generation n is live and the handoff in flight has started the one that follows it.
func (s *step) nextOnItsWay(n int) bool {
	h := s.Handoff
	return n == s.Live && n == h.From && (h.Stage == Starting || h.Stage == Proving)
}

// mainGone decides what the end of a main process means.
func (s *step) mainGone(e Event) {
	n := e.Gen
	if n == s.Live {
		s.ExitCode = e.Code
	}
	h := s.Handoff
	switch {
	case s.Ending != NotEnding:
		if n == s.Live && s.Ending == Delaying {
			s.stopAll()
		}
		s.finish()
	case n == s.Live:
		s.liveExited(e)
	case n == h.To:
		s.fail(n, e.Reason)
	case n == h.From && s.whole():
		// The old generation has nothing left to accept with: the relay has the rest.
		s.do(Action{Kind: StopProve, Gen: h.To}, Action{Kind: Relay, Gen: n})
		s.disarm(SoakTimer, h.To)
		s.gen(n).Settling = false
		s.complete()
	}
}

func (s *step) liveExited(e Event) {
	g, h := s.gen(e.Gen), s.Handoff
	s.do(Action{Kind: StopProve, Gen: e.Gen})
	s.stopTell(status.FailedHandoff, "the live generation exited: "+e.Reason)
	s.Confirming = false
	if h.To == e.Gen && s.whole() {
		s.turnBack(e.Reason)
		return
	}
	switch {
	case s.nextOnItsWay(e.Gen), h.Stage == Stopping:
		g.State = status.Draining
		return // what arrives meanwhile waits in this one's queue
	case h.Stage == Checking, h.Stage == Measuring:
		if h.Stage == Checking {
			s.do(Action{Kind: StopCheck})
		}
		s.decide(status.FailedHandoff, "the live generation exited: "+e.Reason)
	case h.To == e.Gen && h.Stage != None:
		s.decide(status.FailedHandoff, e.Reason)
	}
	s.disarm(ReadyTimer, e.Gen)
	s.restartOrExit(e)
}

func (s *step) restartOrExit(e Event) {
	// A first command that could not even be executed will not be there a second later: say so at once.
	hopeless := e.Gen == 1 && !s.gen(1).Executed
	if hopeless || s.Interrupted || s.Config.Restart == Never || s.Config.Restart == OnFailure && e.Code == 0 {
		s.end(e)
		return
	}
	if e.Stable {
		s.Attempt = 0
	}
	s.gen(e.Gen).State = status.Draining
	s.Backoff = true
	s.do(Action{Kind: Arm, Timer: BackoffTimer, N: s.Attempt})
}

// restart replaces a live generation that has exited; it answers the triggers that have come meanwhile.
func (s *step) restart(why string) {
	s.disarm(BackoffTimer, 0)
	s.Backoff = false
	s.Attempt++
	s.Pending = ""
	s.Handoff = Handoff{Stage: Starting, Why: why, From: s.Live, Through: s.Tickets}
	s.do(Action{Kind: Began, From: s.Live, Reason: why})
	s.Handoff.To = s.startServing(s.Live)
}

// emptied takes note that no process of n is left. The sockets that the switch points at stay all the same.
func (s *step) emptied(n int) {
	g := s.gen(n)
	if g == nil || !g.MainGone {
		return
	}
	g.Empty = true
	switch {
	case n != s.Live:
		s.gone(n)
	case s.Handoff.Stage == Stopping && s.Handoff.From == n:
		s.Handoff.Stage = Starting
		s.Handoff.To = s.startServing(n)
	}
	s.finish()
}

// gone forgets a generation of which nothing is left.
func (s *step) gone(n int) {
	s.disarm(WaitTimer, n)
	s.disarm(DrainTimer, n)
	s.do(Action{Kind: Retire, Gen: n})
	s.Gens = slices.DeleteFunc(s.Gens, func(g Generation) bool { return g.Number == n })
}

// leftovers tells the processes that a main process has left behind to stop, and bounds how long that may take.
func (s *step) leftovers(n int) {
	g := s.gen(n)
	if g == nil || g.Empty {
		return
	}
	if s.Ending != NotEnding && n == s.Live && !s.Config.Grace {
		return // the end of the live generation is the end of the container, as with any init
	}
	g.Stopped = true
	if g.Killed {
		return // they are being killed, too
	}
	s.do(Action{Kind: Stop, Gen: n})
	if n != s.Live || s.Ending == NotEnding {
		s.bound(n)
	}
}

// bound gives a generation the drain timeout, once.
func (s *step) bound(n int) {
	if g := s.gen(n); !g.Bounded {
		g.Bounded = true
		s.arm(DrainTimer, n)
	}
}

func (s *step) kill(n int, reason string) {
	s.gen(n).Killed = true
	s.do(Action{Kind: Kill, Gen: n, Reason: reason})
}

func (s *step) add(state status.State) int {
	s.Next++
	s.Gens = append(s.Gens, Generation{Number: s.Next, State: state})
	return s.Next
}

// gen returns generation n to be changed, or nil. It is good until the next add or gone.
func (s *step) gen(n int) *Generation {
	for i := range s.Gens {
		if s.Gens[i].Number == n {
			return &s.Gens[i]
		}
	}
	return nil
}

func (s *step) do(a ...Action)        { s.actions = append(s.actions, a...) }
func (s *step) arm(t Timer, n int)    { s.do(Action{Kind: Arm, Timer: t, Gen: n}) }
func (s *step) disarm(t Timer, n int) { s.do(Action{Kind: Disarm, Timer: t, Gen: n}) }
