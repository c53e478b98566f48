package handoff

import (
	"slices"
	"testing"

	"holdfast/reaper"
)

// named is this process as the init, by its pid.
type named struct{ *reaper.Reaper }

func (named) PID() int { return 7 }

// TestVariables: under another tool's name the environment is this process' own, and its LISTEN_PID is set anew only if it
// named this process; else sockets that were this process' own are passed on, and another's are not.
func TestVariables(t *testing.T) {
	own, foreign := []string{"LISTEN_FDS=1", "LISTEN_PID=7"}, []string{"LISTEN_FDS=1", "LISTEN_PID=8"}
	for name, c := range map[string]struct {
		o           Options
		env, want   []string
		pidVariable string
	}{
		"bare, named":         {Options{Bare: true, Passed: own[:1]}, own, own[:1], "LISTEN_PID"},
		"bare, another named": {Options{Bare: true}, foreign, foreign, ""},
		"bare, nobody named":  {Options{Bare: true}, foreign[:1], foreign[:1], ""},
		"named":               {Options{Passed: own[:1]}, own, []string{"HOLDFAST_GENERATION=1", "LISTEN_FDS=1"}, "LISTEN_PID"},
		"another named":       {Options{}, foreign, []string{"HOLDFAST_GENERATION=1"}, ""},
	} {
		l := &Loop{o: c.o, reaper: named{}}
		if got, pidVariable := l.variables(&generation{number: 1}, c.env, nil); !slices.Equal(got, c.want) || pidVariable != c.pidVariable {
			t.Errorf("%s: %q, %q, want %q, %q", name, got, pidVariable, c.want, c.pidVariable)
		}
	}
}
