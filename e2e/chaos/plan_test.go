package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// step is one handoff of a plan: how it is asked for, and what happens meanwhile.
type step struct {
	trigger      string // signal, storm, watch, command
	orders       string // what the wrapper of the generation to come does before it becomes the server; shell
	stalls       bool   // for longer than the ready timeout: it must fail
	disturbances []disturbance
}

// disturbance is one thing that goes wrong, so long after the trigger, for so long.
type disturbance struct {
	kind  string
	after time.Duration
	lasts time.Duration
}

func (d disturbance) String() string { return fmt.Sprintf("%s@%v+%v", d.kind, d.after, d.lasts) }

func (s step) String() string {
	var b strings.Builder
	b.WriteString(s.trigger)
	if s.orders != "" {
		fmt.Fprintf(&b, ", orders %q", s.orders)
	}
	for _, d := range s.disturbances {
		fmt.Fprintf(&b, ", %v", d)
	}
	return b.String()
}

// kinds are the disturbances, in the order in which the seed chooses among them.
func kinds() []string {
	return []string{
		"kill the new generation", "kill the live generation", "kill the old generation", "kill a worker",
		"stop the new generation", "stop the live generation", "stop the old generation",
		"reload storm", "flip the watched file", "remove the watched directory", "fill the disk",
		"exhaust descriptors", "exhaust pids", "fork fails", "exhaust inotify instances",
		"half-open clients", "unfinished handshakes",
	}
}

// order is what can be wrong with a start; it is run by the wrapper's shell.
type order struct {
	name, script string
	stalls       bool
}

func orders() []order {
	return []order{
		{name: "slow start", script: "sleep 0.7"},
		{name: "start that stalls", script: "sleep 3"},
		{name: "start that never ends", script: "sleep 60", stalls: true},
		{name: "start that fails", script: "exit 3"},
		// It has wiped its environment, is in a session of its own, an orphan, and ignores what would end it.
		{name: "daemon with the listener", script: `(env -i setsid sh -c 'trap "" TERM HUP INT; sleep 6' </dev/null >/dev/null 2>&1 &)`},
	}
}

// plan draws n steps. Every few there is one without disturbance, in which everything must go well.
func plan(n int, random *rand.Rand) []step {
	all, wrong := kinds(), orders()
	// Each kind comes about equally often: a shuffled pack after the other.
	var pack []string
	draw := func() string {
		if len(pack) == 0 {
			pack = slices.Clone(all)
			random.Shuffle(len(pack), func(i, j int) { pack[i], pack[j] = pack[j], pack[i] })
		}
		k := pack[0]
		pack = pack[1:]
		return k
	}
	steps := make([]step, n)
	for i := range steps {
		s := &steps[i]
		s.trigger = []string{"signal", "signal", "command", "watch", "storm"}[random.IntN(5)]
		if i%calmEvery == calmEvery-1 {
			continue
		}
		for range 1 + random.IntN(2) {
			within := 900
			if random.IntN(2) == 0 {
				within = 250 // a fast server's whole handoff, but for the drain
			}
			s.disturbances = append(s.disturbances, disturbance{
				kind:  draw(),
				after: time.Duration(random.IntN(within)) * time.Millisecond,
				lasts: time.Duration(150+random.IntN(850)) * time.Millisecond,
			})
		}
		if random.IntN(3) == 0 {
			o := wrong[random.IntN(len(wrong))]
			s.orders, s.stalls = o.script, o.stalls
		}
	}
	return steps
}

// calmEvery is after how many steps one is calm.
const calmEvery = 6
