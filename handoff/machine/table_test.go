package machine_test

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"holdfast/handoff/machine"
)

// update is for: go test ./handoff/machine -run TestTable -update
func updating() bool { return flag.Lookup("update").Value.String() == "true" }

var _ = flag.Bool("update", false, "write the golden files anew")

func ev(k machine.EventKind, gen int) machine.Event {
	return machine.Event{Kind: k, Gen: gen, Reason: "why", Code: 1, Why: "signal"}
}

func fired(t machine.Timer, gen int) machine.Event {
	return machine.Event{Kind: machine.Fired, Timer: t, Gen: gen, Reason: "why"}
}

// named are the states that a reader should know, each by the way to it.
func named() []struct {
	name   string
	config machine.Config
	way    []machine.Event
} {
	boot := []machine.Event{ev(machine.Boot, 0)}
	live := append(boot[:1:1], ev(machine.Executed, 1), ev(machine.Proven, 1))
	then := func(way []machine.Event, more ...machine.Event) []machine.Event {
		return append(way[:len(way):len(way)], more...)
	}
	starting := then(live, ev(machine.Trigger, 0))
	proving := then(starting, ev(machine.Executed, 2))
	cut := then(proving, ev(machine.Proven, 2), ev(machine.CutoverDone, 2))
	plain, one := machine.Config{MaxDraining: 8}, machine.Config{MaxDraining: 1}
	check, soak, sequential, restart, wait, delay, tell := plain, plain, plain, plain, plain, plain, plain
	check.Check, soak.Soak, sequential.Sequential, restart.Restart = true, true, true, machine.Always
	wait.WaitConnections, delay.ShutdownDelay, delay.Grace = true, true, true
	tell.Tell, tell.Check = true, true
	refuse, tight := plain, plain
	refuse.Headroom, tight.Headroom = machine.HeadroomRefuse, machine.HeadroomSequential
	news := ev(machine.Changed, 0)
	return []struct {
		name   string
		config machine.Config
		way    []machine.Event
	}{
		{"first start", plain, boot},
		{"first generation runs, not proven", plain, then(boot, ev(machine.Executed, 1))},
		{"first generation overdue", plain, then(boot, ev(machine.Executed, 1), fired(machine.ReadyTimer, 1))},
		{"live", plain, live},
		{"checking", check, starting},
		{"measuring, to refuse", refuse, starting},
		{"measuring, else sequential", tight, starting},
		{"no room, old one stopping", tight, then(starting, ev(machine.Tight, 1))},
		{"starting", plain, starting},
		{"starting, another trigger pending", plain, then(starting, ev(machine.Trigger, 0))},
		{"proving", plain, proving},
		{"proving, the live one dead", plain, then(proving, ev(machine.MainExited, 1))},
		{"turning", plain, then(proving, ev(machine.Proven, 2))},
		{"soaking", soak, cut},
		{"turning back", soak, then(cut, ev(machine.MainExited, 2))},
		{"turned back, live one to be confirmed", soak, then(cut, ev(machine.MainExited, 2), ev(machine.CutoverDone, 1))},
		{"settling", plain, cut},
		{"old one draining", plain, then(cut, ev(machine.Settled, 1))},
		{"two old ones, one may drain", one, then(cut, ev(machine.Settled, 1), ev(machine.Trigger, 0), ev(machine.Executed, 3), ev(machine.Proven, 3), ev(machine.CutoverDone, 3))},
		{"old one waits for its connections", wait, then(cut, ev(machine.Settled, 1))},
		{"failed, live one to be confirmed", plain, then(proving, ev(machine.MainExited, 2))},
		{"live one dead, backoff", restart, then(live, ev(machine.MainExited, 1))},
		{"restarting", restart, then(live, ev(machine.MainExited, 1), ev(machine.Emptied, 1), fired(machine.BackoffTimer, 0))},
		{"sequential, old one stopping", sequential, starting},
		{"sequential, new one starting", sequential, then(starting, ev(machine.MainExited, 1), ev(machine.Emptied, 1))},
		{"shutdown delay", delay, then(live, ev(machine.Terminate, 0))},
		{"stopping", plain, then(live, ev(machine.Terminate, 0))},
		{"watch action, checking", tell, then(live, news)},
		{"watch action, checking, changed again", tell, then(live, news, news)},
		{"watch action, telling", tell, then(live, news, ev(machine.CheckPassed, 0))},
		{"watch action, telling, a handoff pending", tell, then(live, news, ev(machine.CheckPassed, 0), ev(machine.Trigger, 0))},
		{"watch action, settling", tell, then(live, news, ev(machine.CheckPassed, 0), ev(machine.Told, 1))},
		{"watch action, proving", tell, then(live, news, ev(machine.CheckPassed, 0), ev(machine.Told, 1), fired(machine.TellTimer, 1))},
		{"changed during a handoff", tell, then(starting, ev(machine.CheckPassed, 0), news)},
		{"stopping, with a grace period", delay, then(live, ev(machine.Terminate, 0), ev(machine.Terminate, 0))},
	}
}

// TestTable writes down what each named state makes of each event, and compares it with what was read and found right.
func TestTable(t *testing.T) {
	var b strings.Builder
	for _, n := range named() {
		m := machine.New(n.config)
		for _, e := range n.way {
			m, _ = m.Step(e)
		}
		fmt.Fprintf(&b, "%s\n  %s\n", n.name, summary(m))
		for _, e := range everyEvent() {
			after, actions := m.Step(e)
			if len(actions) == 0 && reflect.DeepEqual(after, m) {
				continue // ignored
			}
			fmt.Fprintf(&b, "    %-16s %s\n    %16s %s\n", e, texts(actions), "→", summary(after))
		}
		b.WriteString("\n")
	}
	const golden = "testdata/table.golden"
	if updating() {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, all := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(all)) {
		if i >= len(got) || i >= len(all) || got[i] != all[i] {
			t.Fatalf("%s:%d differs; read what has changed: go test ./handoff/machine -run TestTable -update && git diff", golden, i+1)
		}
	}
}

func everyEvent() []machine.Event {
	events := []machine.Event{
		ev(machine.Trigger, 0), ev(machine.Changed, 0), ev(machine.CheckPassed, 0), ev(machine.CheckFailed, 0), ev(machine.Terminate, 0),
		{Kind: machine.Interrupt, Signal: 2}, {Kind: machine.Signal, Signal: 10},
		fired(machine.BackoffTimer, 0), fired(machine.ShutdownTimer, 0), fired(machine.GraceTimer, 0),
	}
	for gen := 1; gen <= 2; gen++ {
		for k := machine.StartFailed; k <= machine.Tight; k++ {
			events = append(events, ev(k, gen))
		}
		for _, timer := range []machine.Timer{machine.ReadyTimer, machine.SoakTimer, machine.WaitTimer, machine.DrainTimer, machine.TellTimer} {
			events = append(events, fired(timer, gen))
		}
	}
	return events
}

func texts[T fmt.Stringer](all []T) string {
	list := make([]string, len(all))
	for i, a := range all {
		list[i] = a.String()
	}
	return strings.Join(list, ", ")
}

// summary is a state in a line.
func summary(m machine.Machine) string {
	var b strings.Builder
	fmt.Fprintf(&b, "live %d", m.Live)
	for _, g := range m.Gens {
		fmt.Fprintf(&b, ", %d %s", g.Number, g.State)
		for _, is := range []struct {
			so   bool
			name string
		}{
			{g.Executed, "executed"}, {g.Proven, "proven"}, {g.Settling, "settling"}, {g.Stopped, "stopped"},
			{g.Killed, "killed"}, {g.MainGone, "main gone"}, {g.Empty, "empty"},
		} {
			if is.so {
				b.WriteString(" " + strings.ReplaceAll(is.name, " ", "-"))
			}
		}
	}
	if m.Handoff.Stage != machine.None {
		fmt.Fprintf(&b, "; %s %d→%d", m.Handoff.Stage, m.Handoff.From, m.Handoff.To)
	}
	if m.Telling.Stage != machine.NoTell {
		fmt.Fprintf(&b, "; watch action: %s", m.Telling.Stage)
	}
	for _, is := range []struct {
		so   bool
		name string
	}{
		{m.News, "news"}, {m.Handoff.News, "news for the new one"}, {m.Pending != "", "pending"}, {m.Confirming, "confirming"}, {m.Overdue, "overdue"}, {m.Backoff, "backoff"},
		{m.Interrupted, "interrupted"}, {m.Ending == machine.Delaying, "shutdown delay"},
		{m.Ending == machine.Ended, "ending"}, {m.Ending == machine.Exited, "exited"},
	} {
		if is.so {
			b.WriteString("; " + is.name)
		}
	}
	return b.String()
}
