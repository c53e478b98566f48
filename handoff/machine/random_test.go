package machine_test

import (
	"testing"

	"pgregory.net/rapid"

	"holdfast/handoff/machine"
)

// TestRandom goes where the breadth-first search cannot: long ways, many triggers, any configuration. A failure is
// shrunk to a short way; rapid prints the flag that repeats it.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := machine.Config{
			Check: rapid.Bool().Draw(t, "check"), Tell: rapid.Bool().Draw(t, "tell"), Sequential: rapid.Bool().Draw(t, "sequential"), Soak: rapid.Bool().Draw(t, "soak"),
			WaitConnections: rapid.Bool().Draw(t, "connections"), ShutdownDelay: rapid.Bool().Draw(t, "delay"), Grace: rapid.Bool().Draw(t, "grace"),
			Headroom:    rapid.SampledFrom([]machine.Headroom{machine.HeadroomOff, machine.HeadroomWarn, machine.HeadroomRefuse, machine.HeadroomSequential}).Draw(t, "headroom"),
			MaxDraining: rapid.IntRange(1, 3).Draw(t, "may drain"),
			Restart:     rapid.SampledFrom([]machine.Restart{machine.Never, machine.OnFailure, machine.Always}).Draw(t, "restart"),
		}
		w := newWorld(c, 100, 0, 20)
		length := rapid.IntRange(1, 300).Draw(t, "length")
		end := rapid.IntRange(0, 2*length).Draw(t, "end") // beyond the length: it is never told to end
		for n := range length {
			if n == end {
				w.Ends = 3
			}
			events := w.possible()
			if len(events) == 0 {
				break
			}
			violations := w.step(rapid.SampledFrom(events).Draw(t, "event"))
			if len(violations) == 0 {
				violations = w.outcome()
			}
			if len(violations) > 0 {
				t.Fatal(texts(violations))
			}
		}
	})
}
