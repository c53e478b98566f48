package machine

import "holdfast/handoff/status"

// TellStage is where the watch action in flight stands.
type TellStage int

// The stages of a watch action, in their order. While one is in flight, no handoff is.
const (
	NoTell     TellStage = iota
	TellCheck            // the check command runs
	TellRun              // the live generation is being told: it gets its signal, or the command runs
	TellSettle           // it has been told, and is given the time to begin with it: what it shows now it would show anyway
	TellProve            // it must show that it still is ready
)

var tellNames = [...]string{"none", "checking", "telling", "settling", "proving"}

func (s TellStage) String() string { return tellNames[s] }

// Telling is the watch action in flight; its zero value means none.
type Telling struct {
	Stage TellStage
	Gen   int // whom it tells: the live generation
}

// changed takes note that the watched content is another.
func (s *step) changed(why string) {
	switch {
	case !s.Config.Tell:
		s.trigger(why)
	case s.Ending == NotEnding:
		s.News = true
	}
}

// beginTell has the live generation learn of changed content in place of a handoff.
func (s *step) beginTell() {
	s.News = false
	s.Telling = Telling{TellCheck, s.Live}
	s.do(Action{Kind: BeganTell, Gen: s.Live})
	if s.Config.Check {
		s.do(Action{Kind: RunCheck, Gen: s.Live})
		return
	}
	s.tell()
}

func (s *step) tell() {
	s.Telling.Stage = TellRun
	s.do(Action{Kind: Tell, Gen: s.Telling.Gen})
}

// told gives the generation time to take what it was told, or to die of it.
func (s *step) told(n int) {
	if s.Telling == (Telling{TellRun, n}) {
		s.Telling.Stage = TellSettle
		s.arm(TellTimer, n)
	}
}

// tellSettled has the generation show that it is as ready as before.
func (s *step) tellSettled(n int) {
	if s.Telling == (Telling{TellSettle, n}) {
		s.Telling.Stage = TellProve
		s.arm(ReadyTimer, n)
		s.do(Action{Kind: Prove, Gen: n})
	}
}

// endTell ends the watch action with an outcome.
func (s *step) endTell(result, reason string) {
	s.do(Action{Kind: Reported, Gen: s.Telling.Gen, Result: result, Reason: reason})
	s.Telling = Telling{}
}

// stopTell ends the watch action before it has an outcome of its own, if there is one.
func (s *step) stopTell(result, reason string) {
	switch s.Telling.Stage {
	case NoTell:
		return
	case TellCheck:
		s.do(Action{Kind: StopCheck})
	case TellRun:
		s.do(Action{Kind: StopTell, Gen: s.Telling.Gen})
	case TellSettle:
		s.disarm(TellTimer, s.Telling.Gen)
	case TellProve:
		s.disarm(ReadyTimer, s.Telling.Gen)
		if s.gen(s.Telling.Gen).Proven { // else that is still to be found out
			s.do(Action{Kind: StopProve, Gen: s.Telling.Gen})
		}
	}
	s.endTell(result, reason)
}

// tellNotReadyInTime is told that the generation has not shown in time that it is as ready as before. It stays, since it
// is the only one that could serve.
func (s *step) tellNotReadyInTime(reason string) {
	g := s.gen(s.Telling.Gen)
	s.endTell(status.FailedHandoff, reason)
	if !g.Proven || s.Confirming {
		s.do(Action{Kind: Prove, Gen: g.Number}) // which goes on waiting for that
	}
}
