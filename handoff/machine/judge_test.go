package machine_test

import (
	"slices"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
)

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
