package machine

import "fmt"

// EventKind says what has happened.
type EventKind int

// The events. Those about a generation carry its number in Event.Gen.
const (
	Boot            EventKind = iota // once, first
	Trigger                          // Why asks for a handoff
	Changed                          // the watched content has, and is quiet
	CheckPassed                      // the check command exited 0
	CheckFailed                      // it did not: Reason
	StartFailed                      // no process was started: Reason, Code
	Executed                         // the generation's program runs
	Proven                           // it has shown that it is ready
	Unready                          // during a soak: it is not ready any more, Reason
	CutoverDone                      // the switch points at Gen; follows the Cutover action at once
	CutoverFailed                    // the kernel refused to turn the switch to Gen: Reason; in place of CutoverDone
	MainExited                       // its main process has exited: Code, Stable, Reason
	Emptied                          // no process of it is left
	Settled                          // its accept queues are empty and the settle time has passed
	ConnectionsGone                  // its established connections are gone
	Told                             // it has been told of changed content
	TellFailed                       // it could not be: Reason
	Fits                             // there is memory for a second generation beside it, or nobody knows
	Tight                            // there is not: Reason
	Fired                            // Timer has run out
	Terminate                        // SIGTERM, or what ends holdfast
	Interrupt                        // INT or QUIT: passed on as it is to all
	Signal                           // any other signal: for the live generation
)

// Timer names a timer; one of each kind runs for each generation (0 where it belongs to none).
type Timer int

// The timers.
const (
	ReadyTimer     Timer = iota // --ready-timeout
	SoakTimer                   // --soak
	WaitTimer                   // half the drain timeout, with --drain-wait-connections
	DrainTimer                  // --drain-timeout
	BackoffTimer                // between restarts; Action.N is the attempt
	ShutdownTimer               // --shutdown-delay
	GraceTimer                  // --grace-period
	TellTimer                   // --settle, after the live generation was told of changed content
	InterruptTimer              // for so long an exit counts as asked for by INT or QUIT
)

// Event is one thing that has happened. Which fields count depends on Kind.
type Event struct {
	Kind   EventKind
	Gen    int
	Why    string // Trigger, Changed: signal, watch, command
	Timer  Timer
	Code   int    // MainExited, StartFailed: as holdfast would exit with it, 0…255
	Stable bool   // MainExited: it had been proven and had run long enough that the backoff starts anew
	Signal int    // Terminate, Interrupt, Signal
	Reason string // one line
}

// ActionKind says what is to be done.
type ActionKind int

// The actions. Those about a generation carry its number in Action.Gen.
const (
	Began      ActionKind = iota // a handoff has begun (for the log and the timing)
	Decided                      // it has ended: Result, Reason, Through; waiters are answered
	BeganTell                    // Gen is to be told of changed content (for the log and the timing)
	Reported                     // that has ended: Result, Reason
	RunCheck                     // run the check command → CheckPassed or CheckFailed; Gen: for the watch action
	StopCheck                    // end it; its result is not wanted any more
	Measure                      // find out whether there is memory for a second generation beside it → Fits or Tight
	Start                        // start Gen, with From's sockets if From is not 0, else with fresh ones → StartFailed or Executed
	Prove                        // have it show that it is ready → Proven
	Recheck                      // see again and again that it still is → Unready
	StopProve                    // end Prove or Recheck
	Cutover                      // turn the switch to Gen on every held port → CutoverDone or CutoverFailed
	Settle                       // watch its accept queues → Settled
	AwaitConns                   // watch its established connections → ConnectionsGone
	Tell                         // carry out the watch action on it → Told or TellFailed
	StopTell                     // end that; its result is not wanted any more
	Relay                        // relay what is queued for it, from now on, to the live generation
	Stop                         // send the stop signal: to its main process, or to all that is left of it
	Kill                         // SIGKILL everything of it
	Retire                       // close its sockets, stragglers relayed first
	Arm                          // start Timer (N: the attempt, for BackoffTimer)
	Disarm                       // stop Timer
	Forward                      // pass Signal on to its main process
	Exit                         // end holdfast with Code
)

// Action is one thing to do. Which fields count depends on Kind.
type Action struct {
	Kind    ActionKind
	Gen     int
	From    int
	Timer   Timer
	N       int
	Code    int
	Signal  int
	Result  string
	Reason  string
	Through uint64
}

var (
	eventNames = [...]string{"Boot", "Trigger", "Changed", "CheckPassed", "CheckFailed", "StartFailed", "Executed", "Proven", "Unready",
		"CutoverDone", "CutoverFailed", "MainExited", "Emptied", "Settled", "ConnectionsGone", "Told", "TellFailed", "Fits", "Tight", "Fired", "Terminate", "Interrupt", "Signal"}
	actionNames = [...]string{"Began", "Decided", "BeganTell", "Reported", "RunCheck", "StopCheck", "Measure", "Start", "Prove", "Recheck", "StopProve", "Cutover",
		"Settle", "AwaitConns", "Tell", "StopTell", "Relay", "Stop", "Kill", "Retire", "Arm", "Disarm", "Forward", "Exit"}
	timerNames = [...]string{"ready", "soak", "wait", "drain", "backoff", "shutdown", "grace", "tell", "interrupt"}
)

func (k EventKind) String() string  { return eventNames[k] }
func (k ActionKind) String() string { return actionNames[k] }
func (t Timer) String() string      { return timerNames[t] }

// String is for logs and test failures: "Proven 2", "Fired drain 1".
func (e Event) String() string {
	switch e.Kind {
	case Fired:
		return fmt.Sprintf("Fired %s %d", e.Timer, e.Gen)
	case MainExited:
		return fmt.Sprintf("MainExited %d code=%d", e.Gen, e.Code)
	case Boot, Trigger, Changed, CheckPassed, CheckFailed, Terminate, Interrupt, Signal:
		return e.Kind.String()
	}
	return fmt.Sprintf("%s %d", e.Kind, e.Gen)
}

// String is for logs and test failures: "Start 2 from 1", "Arm drain 1".
func (a Action) String() string {
	switch a.Kind {
	case Arm, Disarm:
		return fmt.Sprintf("%s %s %d", a.Kind, a.Timer, a.Gen)
	case Start:
		if a.From != 0 {
			return fmt.Sprintf("Start %d from %d", a.Gen, a.From)
		}
	case Decided, Reported:
		return fmt.Sprintf("%s %s", a.Kind, a.Result)
	case Exit:
		return fmt.Sprintf("Exit %d", a.Code)
	case RunCheck, StopCheck:
		return a.Kind.String()
	}
	return fmt.Sprintf("%s %d", a.Kind, a.Gen)
}
