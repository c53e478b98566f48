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

// stopping judges a signal that ends a generation.
func (w *world) stopping(a machine.Action, bad func(invariant, string, ...any)) {
	w.Procs[a.Gen].Killed = w.Procs[a.Gen].Killed || a.Kind == machine.Kill
	if w.Procs[a.Gen].MainGone || w.M.Ending != machine.NotEnding || w.M.Config.Sequential || w.M.Handoff.Sequential {
		return
	}
	if a.Gen == w.Switch {
		bad(overlap, "%v of the generation that the switch points at", a)
	}
	if h := w.M.Handoff; a.Gen == h.From && h.Stage != machine.None {
		bad(overlap, "%v while it could still be turned back to", a)
	}
}

// decided judges the outcome of a handoff, or of triggers that will get none.
func (w *world) decided(a machine.Action, bad func(invariant, string, ...any)) {
	if a.Through < w.Answered {
		bad(answered, "%v answers triggers again", a)
	}
	w.Answered = a.Through
	switch {
	case w.Open && a.Through > w.Begun:
		bad(answered, "%v answers trigger %d by a handoff that began before it", a, a.Through)
	case !w.Open && a.Result != status.Abandoned:
		bad(contract, "%v without a handoff", a)
	}
	w.Open = false
}

// exit judges the end: as a subreaper, whatever of another generation than the live one is left must be killed. Triggers
// that have no answer yet get theirs from Loop.Run.
func (w *world) exit(bad func(invariant, string, ...any)) {
	w.Exited = true
	for n, p := range w.Procs {
		if p.Started && !p.Empty && !p.Killed && n != w.M.Live {
			bad(gone, "generation %d is left behind at the exit", n)
		}
	}
}

// judge holds the machine to what must be true after each step.
func (w *world) judge(bad func(invariant, string, ...any)) {
	live, out := 0, map[status.State]int{}
	for _, g := range w.M.Gens {
		if !g.Killed && g.Number != w.M.Handoff.From {
			out[g.State]++
		}
		if g.State == status.Live {
			live++
			if g.Number != w.M.Live {
				bad(oneLive, "generation %d is live, the machine's live one is %d", g.Number, w.M.Live)
			}
		}
		if p := w.Procs[g.Number]; p.MainGone && !p.Empty && !w.Exited && g.Number != w.M.Live && !g.Stopped {
			bad(gone, "the leftovers of generation %d were never told", g.Number)
		}
		if p := w.Procs[g.Number]; w.Exited && w.M.Config.Grace && p.MainGone && p.Executed && !p.Empty && !g.Stopped {
			bad(gone, "the leftovers of generation %d got no grace period", g.Number)
		}
		bounded := w.Procs[g.Number].Killed || slices.Contains(w.Timers, timerKey{machine.DrainTimer, g.Number})
		if g.Stopped && !bounded && g.Number != w.M.Live && !w.Exited {
			bad(gone, "generation %d was told to stop, and may take for ever", g.Number)
		}
	}
	if live > 1 {
		bad(oneLive, "%d generations are live", live)
	}
	if w.Exited || w.Turning[0] != nobody {
		return
	}
	if most := w.M.Config.MaxDraining; w.M.Ending == machine.NotEnding && max(out[status.Draining], out[status.Failed]) > most {
		bad(gone, "%d generations drain and %d have failed, and none of them is killed; want %d at most", out[status.Draining], out[status.Failed], most)
	}
	if w.Switch != w.M.Live {
		bad(sockets, "the switch points at %d, live is %d", w.Switch, w.M.Live)
	}
	if !w.Procs[w.Switch].Sockets {
		bad(sockets, "the switch points at %d, whose sockets are gone", w.Switch)
	}
	if w.M.Ending == machine.NotEnding && w.M.Serving() == nobody && w.M.Handoff.Stage == machine.None && !w.M.Backoff {
		bad(recovery, "nothing serves and nothing is on its way")
	}
	w.judgeReadiness(bad)
}

// judgeReadiness compares what /readyz is made from (Loop.readiness) with what the world knows.
func (w *world) judgeReadiness(bad func(invariant, string, ...any)) {
	p := w.Procs[w.Switch]
	if serving := w.M.Serving() != nobody; serving == p.MainGone {
		bad(readyz, "generation %d is said to serve: %v; its main process has exited: %v", w.Switch, serving, p.MainGone)
	}
	if g, _ := w.M.Generation(w.M.Live); g.Proven != p.Proven {
		bad(readyz, "generation %d is said to be proven: %v; it has been: %v", w.Switch, g.Proven, p.Proven)
	}
	waiting := w.Asked > max(w.Begun, w.Answered)
	confirming := w.M.Ending == machine.NotEnding && p.Confirming
	if truth := w.Open && !w.Cut || waiting || confirming; truth != w.M.InFlight() {
		bad(readyz, "in flight: %v; a handoff before its cutover: %v, a trigger that waits: %v, the live one to be confirmed: %v",
			w.M.InFlight(), w.Open && !w.Cut, waiting, confirming)
	}
}

// possible lists the events that could come now.
func (w *world) possible() (events []machine.Event) {
	add := func(e machine.Event) { events = append(events, e) }
	if w.Exited {
		return nil
	}
	if to := w.Turning[0]; to != nobody { // the loop feeds its outcome before anything else
		add(machine.Event{Kind: machine.CutoverDone, Gen: to})
		if w.Refusals > 0 {
			add(machine.Event{Kind: machine.CutoverFailed, Gen: to, Reason: "EINVAL"})
		}
		return events
	}
	if w.Triggers > 0 {
		add(machine.Event{Kind: machine.Trigger, Why: "signal"})
	}
	if w.Changes > 0 {
		add(machine.Event{Kind: machine.Changed, Why: "watch"})
	}
	if w.Ends > 0 {
		add(machine.Event{Kind: machine.Terminate})
		add(machine.Event{Kind: machine.Interrupt, Signal: 2})
	}
	if w.Check {
		add(machine.Event{Kind: machine.CheckPassed})
		add(machine.Event{Kind: machine.CheckFailed, Reason: "no"})
	}
	for n, p := range w.Procs {
		if !p.Started {
			continue
		}
		for _, o := range []struct {
			may bool
			e   machine.Event
		}{
			{!p.Executed && !p.MainGone, machine.Event{Kind: machine.StartFailed, Code: 125, Reason: "fork"}},
			{!p.Executed && !p.MainGone, machine.Event{Kind: machine.Executed}},
			{!p.MainGone && p.Executed, machine.Event{Kind: machine.MainExited, Code: 1, Reason: "exit 1"}},
			{p.MainGone && !p.Empty, machine.Event{Kind: machine.Emptied}},
			{p.Proving && !p.MainGone, machine.Event{Kind: machine.Proven}},
			{p.Rechecking && !p.MainGone, machine.Event{Kind: machine.Unready, Reason: "500"}},
			{p.Settling && p.Sockets, machine.Event{Kind: machine.Settled}},
			{p.Telling && p.Sockets, machine.Event{Kind: machine.Told}},
			{p.Telling && p.Sockets, machine.Event{Kind: machine.TellFailed, Reason: "exit 1"}},
			{p.Measuring && p.Sockets, machine.Event{Kind: machine.Fits}},
			{p.Measuring && p.Sockets, machine.Event{Kind: machine.Tight, Reason: "no room"}},
			{p.Awaiting && p.Sockets, machine.Event{Kind: machine.ConnectionsGone}},
		} {
			if o.may {
				o.e.Gen = n
				add(o.e)
			}
		}
	}
	for _, t := range w.Timers {
		add(machine.Event{Kind: machine.Fired, Timer: t.timer, Gen: t.gen, Reason: "not ready in time"})
	}
	return events
}

// outcome plays on as a fair world would (programs start, prove ready and obey; time passes; nothing new is asked for)
// and says what is wrong with where that ends.
func (w world) outcome() (wrong []violation) {
	w = w.clone()
	w.Triggers, w.Changes, w.Ends, w.Refusals = 0, 0, 0, 0
	bad := func(of invariant, format string, a ...any) {
		wrong = append(wrong, violation{of, fmt.Sprintf(format, a...)})
	}
	for range steps {
		e, ok := w.fair()
		if !ok {
			break
		}
		if v := w.step(e); len(v) > 0 {
			return v
		}
	}
	if w.Exited {
		return nil
	}
	if e, ok := w.fair(); ok {
		bad(recovery, "it never comes to rest: %v", e)
	}
	if w.M.Serving() == nobody || w.M.Handoff.Stage != machine.None {
		bad(recovery, "it comes to rest as %s", summary(w.M))
	}
	if w.M.InFlight() {
		bad(readyz, "it comes to rest with a handoff in flight: %s", summary(w.M))
	}
	if len(w.M.Gens) != 1 {
		bad(gone, "it comes to rest as %s", summary(w.M))
	}
	for n, p := range w.Procs {
		if p.Started && p.Sockets && n != w.M.Live {
			bad(gone, "generation %d still has its sockets", n)
		}
	}
	if knows := max(w.Procs[w.M.Live].Knows, w.Reported); w.M.Config.Tell && (knows < w.Changed || w.Tell) {
		bad(informed, "of %d changes the live generation knows %d; a watch action without outcome: %v", w.Changed, knows, w.Tell)
	}
	if w.Answered < w.Asked || w.Open {
		bad(answered, "triggers up to %d were asked for, up to %d answered, a handoff without outcome: %v", w.Asked, w.Answered, w.Open)
	}
	return wrong
}

// fair picks what would happen next if nothing more went wrong.
func (w *world) fair() (machine.Event, bool) {
	events := w.possible()
	order := []machine.EventKind{
		machine.CutoverDone, machine.Executed, machine.Emptied, machine.CheckPassed, machine.Fits, machine.Proven, machine.Told, machine.Settled, machine.ConnectionsGone,
	}
	for _, k := range order {
		for _, e := range events {
			if e.Kind == k {
				return e, true
			}
		}
	}
	for _, e := range events { // whatever has its stop signal obeys it
		if g, ok := w.M.Generation(e.Gen); e.Kind == machine.MainExited && ok && g.Stopped {
			e.Code = 0
			return e, true
		}
	}
	for _, e := range events {
		if e.Kind == machine.Fired {
			return e, true
		}
	}
	return machine.Event{}, false
}
