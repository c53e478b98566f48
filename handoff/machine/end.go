package machine

import (
	"slices"

	"holdfast/handoff/status"
)

// terminated is the exit code where SIGTERM finds no process: 128 + SIGTERM, as if it had got the signal.
const terminated = 128 + 15

func (s *step) terminate() {
	switch s.Ending {
	case NotEnding:
		s.abandonHandoff()
		if s.Config.ShutdownDelay && s.Serving() != 0 {
			s.Ending = Delaying
			s.arm(ShutdownTimer, 0)
			return
		}
		s.stopAll()
	case Delaying:
		s.disarm(ShutdownTimer, 0)
		s.stopAll()
	case Ended: // again: passed on again, as any signal is
		for _, g := range s.Gens {
			if !g.Empty {
				s.do(Action{Kind: Stop, Gen: g.Number})
			}
		}
	}
}

// abandonHandoff ends what is in flight: nothing new may become live any more.
func (s *step) abandonHandoff() {
	const reason = "holdfast is terminating"
	s.Confirming = false
	s.stopTell(status.Abandoned, reason)
	s.News = false
	if s.Pending != "" {
		s.Pending = ""
		defer s.do(Action{Kind: Decided, Result: status.Abandoned, Reason: reason, Through: s.Tickets})
	}
	switch h := s.Handoff; h.Stage {
	case Checking:
		s.do(Action{Kind: StopCheck})
		s.decide(status.Abandoned, reason)
	case Measuring:
		s.decide(status.Abandoned, reason)
	case Starting, Proving:
		if h.To != s.Live {
			s.abandon(h.To)
		}
		s.decide(status.Abandoned, reason)
	case Stopping:
		s.decide(status.Abandoned, reason)
	case Soaking:
		s.do(Action{Kind: StopProve, Gen: h.To})
		s.disarm(SoakTimer, h.To)
		s.complete()
	case Settling:
		s.gen(h.From).Settling = false
		s.complete()
	}
}

// stopAll gives every generation its stop signal.
func (s *step) stopAll() {
	s.Ending = Ended
	if s.Backoff {
		s.Backoff = false
		s.disarm(BackoffTimer, 0)
		s.ExitCode = terminated
	}
	if s.Config.Grace {
		s.arm(GraceTimer, 0)
	}
	for i := range s.Gens {
		g := &s.Gens[i]
		if g.Stopped || g.Empty || g.MainGone && g.Number == s.Live && !s.Config.Grace {
			continue
		}
		g.Stopped, g.Settling = true, false
		s.do(Action{Kind: StopProve, Gen: g.Number}, Action{Kind: Stop, Gen: g.Number})
		if g.Number != s.Live {
			s.bound(g.Number)
		}
	}
	s.finish()
}

func (s *step) graceOver() {
	if s.Ending != Ended {
		return
	}
	s.GraceOver = true
	for i := range s.Gens {
		if !s.Gens[i].Empty {
			s.kill(s.Gens[i].Number, "the grace period is over")
		}
	}
	s.finish()
}

// interrupt passes INT or QUIT on to everybody, as a terminal would. An exit that follows was asked for; but not one for
// ever, since a program may take it for something else: a JVM answers QUIT with a thread dump.
func (s *step) interrupt(signal int) {
	s.Interrupted = true
	s.arm(InterruptTimer, 0)
	for _, g := range s.Gens {
		if !g.MainGone {
			s.do(Action{Kind: Forward, Gen: g.Number, Signal: signal})
		}
	}
	if s.Backoff {
		s.exit(128+signal, "interrupted while no generation ran")
	}
}

// end ends holdfast because its live generation has ended. With a grace period all that is left over is told, and waited
// for.
func (s *step) end(e Event) {
	ran := func(g Generation) bool { return g.Executed }
	if !s.Config.Grace || !slices.ContainsFunc(s.Gens, ran) {
		s.exit(e.Code, e.Reason)
		return
	}
	s.abandonHandoff()
	s.stopAll()
}

// finish ends holdfast once every main process has exited; with a grace period, once everything has.
func (s *step) finish() {
	if s.Ending != Ended {
		return
	}
	for _, g := range s.Gens {
		if !g.MainGone || s.Config.Grace && !s.GraceOver && !g.Empty {
			return
		}
	}
	s.exit(s.ExitCode, "")
}

// exit ends holdfast. As PID 1 that ends every process; as a subreaper what still drains has to be ended here.
func (s *step) exit(code int, reason string) {
	for _, g := range s.Gens {
		if g.Number != s.Live && !g.Empty {
			s.do(Action{Kind: Kill, Gen: g.Number, Reason: "holdfast exits"})
		}
	}
	s.Ending = Exited
	s.do(Action{Kind: Exit, Code: code, Reason: reason})
}
