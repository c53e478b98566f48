package machine_test

import (
	"fmt"

	"holdfast/handoff/machine"
)

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
