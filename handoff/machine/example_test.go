package machine_test

import (
	"fmt"

	"holdfast/handoff/machine"
)

// A handoff from generation 1 to 2, as the loop has the machine decide it: each event is what has happened, the actions are
// what is to be done now.
func Example() {
	m := machine.New(machine.Config{MaxDraining: 8})
	for _, e := range []machine.Event{
		{Kind: machine.Boot},
		{Kind: machine.Executed, Gen: 1},
		{Kind: machine.Proven, Gen: 1},
		{Kind: machine.Trigger, Why: "signal"},
		{Kind: machine.Executed, Gen: 2},
		{Kind: machine.Proven, Gen: 2},
		{Kind: machine.CutoverDone, Gen: 2},
		{Kind: machine.Settled, Gen: 1},
	} {
		var actions []machine.Action
		m, actions = m.Step(e)
		fmt.Println(e, "→", actions)
	}
	fmt.Println("live:", m.Live)
	// Output:
	// Boot → [Start 1 Arm ready 1]
	// Executed 1 → [Prove 1]
	// Proven 1 → [Disarm ready 1]
	// Trigger → [Began 0 Start 2 Arm ready 2]
	// Executed 2 → [Prove 2]
	// Proven 2 → [Disarm ready 2 Cutover 2]
	// CutoverDone 2 → [Disarm ready 1 Settle 1]
	// Settled 1 → [Decided completed Relay 1 Stop 1 Arm drain 1]
	// live: 2
}
