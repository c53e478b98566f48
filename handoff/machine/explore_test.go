package machine_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/handoff/machine"
)

// depth is for: go test ./handoff/machine -run TestExplore -args -depth 14
var depth = flag.Int("depth", 11, "how many events TestExplore goes from the start")

// configurations are those that are explored: each option, and each way of restarting, in one at least.
func configurations() map[string]machine.Config {
	return map[string]machine.Config{
		"overlap":         {MaxDraining: 8},
		"one may drain":   {MaxDraining: 1, Restart: machine.Always},
		"check":           {MaxDraining: 8, Check: true},
		"soak":            {MaxDraining: 8, Soak: true, Restart: machine.OnFailure},
		"connections":     {MaxDraining: 8, WaitConnections: true},
		"sequential":      {MaxDraining: 8, Sequential: true, Restart: machine.Always},
		"shutdown delay":  {MaxDraining: 8, ShutdownDelay: true, Grace: true},
		"sequential ends": {MaxDraining: 8, Sequential: true, Check: true},
		"grace":           {MaxDraining: 8, Grace: true, Restart: machine.OnFailure},
		"refuse":          {MaxDraining: 8, Headroom: machine.HeadroomRefuse, Check: true},
		"tight":           {MaxDraining: 8, Headroom: machine.HeadroomSequential, Restart: machine.Always},
		"tell":            {MaxDraining: 8, Tell: true, Restart: machine.Always},
		"tell, checked":   {MaxDraining: 8, Tell: true, Check: true, Soak: true},
		"tell sequential": {MaxDraining: 8, Tell: true, Sequential: true, Restart: machine.OnFailure},
	}
}

// TestExplore visits every state that can be reached within depth events, in every order, breadth first, and checks the
// invariants in each, and that from each the machine comes to rest serving, with every trigger answered, or exits.
//
// In a mutant's own run (mutants_test.go) it looks for the violation of one invariant, and goes on past those of others.
func TestExplore(t *testing.T) {
	depth := *depth
	if testing.Short() {
		depth = min(depth, 8)
	}
	wanted := invariant(os.Getenv(mutantVariable))
	for name, c := range configurations() {
		t.Run(name, func(t *testing.T) {
			if wanted == "" {
				t.Parallel()
			}
			explore(t, newWorld(c, 2, 1, 1), depth, wanted)
		})
	}
}

func explore(t *testing.T, start world, depth int, wanted invariant) {
	type node struct {
		w    world
		path []string
	}
	seen := map[string]bool{start.key(): true}
	level := []node{{start, nil}}
	for range depth {
		var next []node
		for _, n := range level {
			for _, e := range n.w.possible() {
				w := n.w.clone()
				path := append(slices.Clone(n.path), e.String())
				violations := w.step(e)
				if k := w.key(); !seen[k] {
					seen[k] = true
					violations = append(violations, w.outcome()...)
					next = append(next, node{w, path})
				}
				violations = slices.DeleteFunc(violations, func(v violation) bool { return wanted != "" && v.of != wanted })
				if len(violations) > 0 {
					t.Fatalf("%s\n  way: %s", texts(violations), strings.Join(path, ", "))
				}
			}
		}
		level = next
	}
	t.Logf("%d states within %d events", len(seen), depth)
}
