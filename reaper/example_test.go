package reaper_test

import (
	"fmt"

	"holdfast/reaper"
)

func ExampleParseSignal() {
	for _, text := range []string{"TERM", "SIGRTMIN+3", "15"} {
		s, err := reaper.ParseSignal(text)
		fmt.Println(reaper.SignalName(s), err)
	}
	// Output:
	// SIGTERM <nil>
	// SIGRTMIN+3 <nil>
	// SIGTERM <nil>
}
