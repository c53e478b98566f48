package machine_test

import (
	"fmt"
	"slices"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
)

// invariant is one thing that must hold whatever happens. mutants_test.go breaks the machine against each of them.
type invariant string

const (
	oneLive  invariant = "one live" // at most one generation is live, and it is the machine's live one
	sockets  invariant = "sockets"  // the switch points at the live generation, whose sockets exist
	overlap  invariant = "overlap"  // a live generation is not stopped before another is proven, nor while it is to be turned back to
	gone     invariant = "gone"     // every generation that was started ends gone: told to stop, bounded, retired
	answered invariant = "answered" // every trigger is followed by a handoff that began after it, and is answered once
	readyz   invariant = "readyz"   // what /readyz is made from agrees with the world
	recovery invariant = "recovery" // a failure leads back to a serving state, or to exit
	informed invariant = "informed" // with a watch action: the live generation has started after the last change, was told of it, or it was reported that this failed
	contract invariant = "contract" // what the loop relies on: nothing for who is gone, no timer twice, no outcome without a handoff
	steps    int       = 200        // that a fair world may need to come to rest
	nobody   int       = 0          // no generation
)

func invariants() []invariant {
	return []invariant{oneLive, sockets, overlap, gone, answered, readyz, recovery, informed, contract}
}

// violation is an invariant that did not hold, and how that showed.
type violation struct {
	of   invariant
	text string
}

func (v violation) String() string { return fmt.Sprintf("invariant %q: %s", v.of, v.text) }

// proc is what the world knows of a generation's processes.
type proc struct {
	Started, Executed, MainGone, Empty bool
	Proving, Rechecking, Proven        bool
	Settling, Awaiting                 bool
	Measuring                          bool
	Telling                            bool // the watch action is being carried out on it
	Confirming                         bool // it was proven, and is asked again
	Sockets                            bool
	Knows                              int // up to which change of the watched content
	Killed                             bool
}

// world is everything around the machine: it carries out the actions, offers the events that are possible, and holds
// the machine to its invariants. What it knows it has from events and actions alone, so that it can disagree.
type world struct {
	M       machine.Machine
	Procs   []proc // by generation, 0 unused
	Switch  int
	Turning [2]int // a cutover on its way: to, from
	Check   bool
	Timers  []timerKey

	Changes  int  // how many more may come of the watched content
	Changed  int  // how many have
	Reported int  // up to which one it was reported that the live generation could not be told
	Tell     bool // a watch action has begun and has no outcome yet ...
	Told     bool // ... but it has been told

	Triggers int    // how many more may come
	Asked    uint64 // triggers so far
	Begun    uint64 // triggers that had come when the last handoff began
	Answered uint64 // triggers answered by an outcome
	Open     bool   // a handoff has begun and has no outcome yet ...
	Cut      bool   // ... but its cutover is behind it
	Ends     int    // how many more Terminate or Interrupt may come
	Refusals int    // how many more cutovers the kernel may refuse
	Exited   bool
}

type timerKey struct {
	timer machine.Timer
	gen   int
}

func newWorld(c machine.Config, triggers, ends, refusals int) world {
	w := world{M: machine.New(c), Procs: make([]proc, 1), Triggers: triggers, Ends: ends, Refusals: refusals}
	if c.Tell {
		w.Changes = triggers
	}
	w.step(machine.Event{Kind: machine.Boot})
	return w
}

func (w world) clone() world {
	w.Procs = slices.Clone(w.Procs)
	w.Timers = slices.Clone(w.Timers)
	return w
}

func (w world) key() string { return fmt.Sprintf("%+v", w) }

// step feeds one event, carries out what follows from it and returns what was violated.
func (w *world) step(e machine.Event) (violations []violation) {
	bad := func(of invariant, format string, a ...any) {
		violations = append(violations, violation{of, fmt.Sprintf(format, a...) + " after " + e.String()})
	}
	defer func() {
		if p := recover(); p != nil { // only a broken machine does
			bad(contract, "panic: %v", p)
			w.Exited = true
		}
	}()
	w.happened(e)
	before := w.M
	m, actions := w.M.Step(e)
	w.M = m
	for _, a := range actions {
		w.carryOut(a, before, bad)
	}
	w.judge(bad)
	return violations
}

// happened notes what an event says about the world.
func (w *world) happened(e machine.Event) {
	switch e.Kind {
	case machine.Trigger:
		w.Triggers--
		w.Asked++
	case machine.Changed:
		w.Changes--
		w.Changed++
	case machine.Terminate, machine.Interrupt:
		w.Ends--
	case machine.CheckPassed, machine.CheckFailed:
		w.Check = false
	case machine.StartFailed:
		w.Procs[e.Gen].MainGone, w.Procs[e.Gen].Empty = true, true
	case machine.Executed:
		w.Procs[e.Gen].Executed = true
	case machine.MainExited:
		w.Procs[e.Gen].MainGone = true
	case machine.Emptied:
		w.Procs[e.Gen].Empty = true
	case machine.Proven:
		w.Procs[e.Gen].Proving, w.Procs[e.Gen].Proven, w.Procs[e.Gen].Confirming = false, true, false
	case machine.Unready:
		w.Procs[e.Gen].Rechecking = false
	case machine.Settled:
		w.Procs[e.Gen].Settling = false
	case machine.ConnectionsGone:
		w.Procs[e.Gen].Awaiting = false
	case machine.Told:
		w.Procs[e.Gen].Telling, w.Told = false, true
	case machine.TellFailed:
		w.Procs[e.Gen].Telling = false
	case machine.Fits, machine.Tight:
		w.Procs[e.Gen].Measuring = false
	case machine.CutoverDone:
		w.Switch, w.Cut, w.Turning = e.Gen, w.Open, [2]int{}
	case machine.CutoverFailed:
		w.Refusals--
		w.Turning = [2]int{}
	case machine.Fired:
		w.stopTimer(timerKey{e.Timer, e.Gen})
	}
}

func (w *world) stopTimer(k timerKey) {
	w.Timers = slices.DeleteFunc(w.Timers, func(t timerKey) bool { return t == k })
}

func (w *world) carryOut(a machine.Action, before machine.Machine, bad func(invariant, string, ...any)) {
	if w.Exited && a.Kind != machine.Disarm && a.Kind != machine.Retire { // putting away is harmless
		bad(contract, "%v after the exit", a)
	}
	if a.Gen != nobody && a.Kind != machine.Start && a.Kind != machine.Decided && a.Kind != machine.Reported && a.Kind != machine.Disarm {
		if a.Gen >= len(w.Procs) || !w.Procs[a.Gen].Sockets {
			bad(contract, "%v for a generation that is gone", a)
			return
		}
	}
	switch a.Kind {
	case machine.Start:
		for len(w.Procs) <= a.Gen {
			w.Procs = append(w.Procs, proc{})
		}
		if w.Procs[a.Gen].Started {
			bad(contract, "%v twice", a)
		}
		w.Procs[a.Gen] = proc{Started: true, Sockets: true, Knows: w.Changed}
		if w.M.Live == a.Gen {
			w.Switch = a.Gen
		}
	case machine.Prove:
		p := &w.Procs[a.Gen]
		p.Proving, p.Confirming = true, p.Confirming || p.Proven && !w.Told
	case machine.Recheck:
		w.Procs[a.Gen].Rechecking = true
	case machine.StopProve:
		w.Procs[a.Gen].Proving, w.Procs[a.Gen].Rechecking, w.Procs[a.Gen].Confirming = false, false, false
	case machine.RunCheck:
		if w.Check {
			bad(contract, "%v while one runs", a)
		}
		w.Check = true
	case machine.Measure:
		w.Procs[a.Gen].Measuring = true
	case machine.BeganTell:
		if w.Tell || w.Open {
			bad(contract, "%v while a watch action or a handoff is in flight", a)
		}
		w.Tell, w.Told = true, false
	case machine.Tell:
		if w.Procs[a.Gen].MainGone || a.Gen != w.Switch || !w.Tell {
			bad(contract, "%v, whom there is nothing to tell", a)
		}
		w.Procs[a.Gen].Telling, w.Procs[a.Gen].Knows = true, w.Changed
	case machine.StopTell:
		w.Procs[a.Gen].Telling = false
	case machine.Reported:
		if !w.Tell {
			bad(contract, "%v without a watch action", a)
		}
		w.Tell, w.Told = false, false
		if a.Result == status.FailedHandoff {
			w.Reported = w.Changed
		}
	case machine.StopCheck:
		w.Check = false
	case machine.Cutover:
		if before.Ending == machine.NotEnding && w.Procs[a.Gen].MainGone {
			bad(recovery, "%v to a dead generation", a)
		}
		if !w.Procs[a.Gen].Proven && a.Gen > a.From {
			bad(overlap, "%v to a generation that was not proven", a)
		}
		w.Turning = [2]int{a.Gen, a.From}
	case machine.Settle:
		w.Procs[a.Gen].Settling = true
	case machine.AwaitConns:
		w.Procs[a.Gen].Awaiting = true
	case machine.Stop, machine.Kill:
		w.stopping(a, bad)
	case machine.Retire:
		w.Procs[a.Gen].Sockets = false
		if !w.Procs[a.Gen].Empty {
			bad(gone, "%v while it has processes", a)
		}
		if slices.ContainsFunc(w.Timers, func(k timerKey) bool { return k.gen == a.Gen }) {
			bad(contract, "%v while a timer of it runs", a)
		}
	case machine.Arm:
		if k := (timerKey{a.Timer, a.Gen}); slices.Contains(w.Timers, k) {
			if a.Timer != machine.InterruptTimer { // each INT gives its own time anew
				bad(contract, "%v twice", a)
			}
		} else {
			w.Timers = append(w.Timers, k)
			slices.SortFunc(w.Timers, func(a, b timerKey) int { return (int(a.timer)-int(b.timer))*1000 + a.gen - b.gen })
		}
	case machine.Disarm:
		w.stopTimer(timerKey{a.Timer, a.Gen})
	case machine.Began:
		if w.Open || w.Tell {
			bad(contract, "%v while a handoff or a watch action is in flight", a)
		}
		w.Open, w.Cut, w.Begun = true, false, w.Asked
	case machine.Decided:
		w.decided(a, bad)
	case machine.Exit:
		w.exit(bad)
	}
}
