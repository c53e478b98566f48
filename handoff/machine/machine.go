// Package machine decides; it does nothing. It is the whole logic of generations and handoffs as a pure function:
//
//	(state, event) → (state, actions)
//
// with no clock, no system call and no goroutine, so that it can be checked exhaustively. The loop in package handoff
// feeds it events one at a time and carries out the actions in order before it feeds the next.
//
// Its invariants (checked after every step by the tests):
//
//   - at most one generation is live, and the switch points at a generation whose sockets exist;
//   - with the overlap strategy a live generation is never stopped before another one has been proven;
//   - a started generation ends gone; a failure leads back to a serving state or to exit;
//   - a trigger is followed by a handoff that began after it, and many of them by one;
//   - where changed content is told to the live generation in place of a handoff, the live generation has started after
//     the last change, or has been told of it, or it is reported that this failed.
package machine

import "holdfast/handoff/status"

// Restart says what happens when a live generation exits on its own.
type Restart int

// The restart policies.
const (
	Never     Restart = iota // holdfast exits with its code, as tini does
	OnFailure                // the next generation is started unless the code is 0
	Always                   // the next generation is started
)

// Config is what the decisions depend on. Durations are not here: the machine arms timers by name.
type Config struct {
	Check           bool // a check command must pass before a handoff starts anything
	Tell            bool // changed content is no trigger: the live generation is told of it
	Sequential      bool // stop the old generation, then start the new one
	Soak            bool // keep the old generation whole for a while after the cutover
	WaitConnections bool // hold the stop signal back until the old generation's connections are gone
	ShutdownDelay   bool // go on serving for a while after SIGTERM
	Grace           bool // a grace period bounds the end
	MaxDraining     int  // more draining generations than this, or failed ones: the oldest is killed
	Restart         Restart
	Headroom        Headroom
}

// Stage is where the handoff in flight stands.
type Stage int

// The stages of a handoff, in their order. While the stage is Soaking or Settling the old generation is still whole: if
// the new one dies, the switch turns back.
const (
	None        Stage = iota
	Checking          // the check command runs
	Measuring         // is there memory for a second generation
	Stopping          // sequential only: the old generation is on its way out
	Starting          // the new generation has been started, its program does not run yet
	Proving           // it runs and must show that it is ready
	Turning           // the switch is being turned to it
	Soaking           // it is live; the old one is kept whole
	Settling          // it is live; the old one accepts what was queued for it before the cutover
	TurningBack       // it has failed after its cutover: the switch is being turned back
)

var stageNames = [...]string{"none", "checking", "measuring", "stopping", "starting", "proving", "turning", "soaking", "settling", "turning back"}

func (s Stage) String() string { return stageNames[s] }

// Handoff is the one in flight; its zero value means none.
type Handoff struct {
	Stage    Stage
	Why      string // what triggered it
	From, To int
	Through  uint64 // it answers every trigger up to this ticket
	News     bool   // the new generation has started from content that the live one has not been told of
	Reason   string // why it is being turned back

	Sequential bool // the old generation is stopped first, in this one as with the strategy of that name
}

// Generation is what the machine knows of a generation that is not gone.
type Generation struct {
	Number   int
	State    status.State
	Executed bool // its program runs
	Proven   bool
	Stopped  bool // it got its stop signal
	Bounded  bool // its drain timeout has been armed
	Killed   bool
	Settling bool // it is accepting what was queued for it before the cutover
	MainGone bool // its main process has exited ...
	Code     int  // ... with this code
	Empty    bool // none of its processes is left
}

// Ending says how far the end of holdfast itself has come.
type Ending int

// The steps of the end.
const (
	NotEnding Ending = iota
	Delaying         // SIGTERM came; serving goes on for the shutdown delay
	Ended            // every generation has its stop signal
	Exited           // the Exit action has been given; nothing more happens
)

// Machine is the state. Its zero value with a Config is the state before Boot.
type Machine struct {
	Config Config

	Gens    []Generation // those not gone, oldest first
	Next    int          // the number of the generation started last
	Live    int          // the switch points at this one; 0 = none yet
	Handoff Handoff

	Tickets    uint64 // triggers seen so far
	Pending    string // what triggered the handoff that must follow the one in flight; empty = none
	News       bool   // the watched content has changed, and the live generation must be told
	Telling    Telling
	Confirming bool // after a failure: the live generation must show again that it is ready
	Overdue    bool // the live generation was not proven in time, and there is nothing to go back to

	Backoff     bool // the live generation has exited; the next one waits for the backoff timer
	Attempt     int  // restarts in a row without a stable generation
	Interrupted bool // INT or QUIT was passed on: an exit that follows was asked for

	Ending    Ending
	GraceOver bool // the grace period has run out and everything has been killed
	ExitCode  int  // of the live generation, once it has exited
}

// New returns the machine before Boot.
func New(c Config) Machine { return Machine{Config: c} }

// Generation returns generation n, if it is not gone.
func (m Machine) Generation(n int) (Generation, bool) {
	for _, g := range m.Gens {
		if g.Number == n {
			return g, true
		}
	}
	return Generation{}, false
}

// Serving returns the live generation's number, or 0 if there is none or its main process has exited.
func (m Machine) Serving() int {
	if g, ok := m.Generation(m.Live); ok && !g.MainGone {
		return m.Live
	}
	return 0
}

// InFlight says whether a handoff is between its trigger and its cutover, or failed and the live generation not yet
// confirmed: what the readyz check of that name asks.
func (m Machine) InFlight() bool {
	switch m.Handoff.Stage {
	case None, Soaking, Settling:
		return m.Confirming || m.Pending != ""
	}
	return true
}

// whole says whether the old generation could still take everything back.
func (m Machine) whole() bool { return m.Handoff.Stage == Soaking || m.Handoff.Stage == Settling }
