package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// TestProofOfAnUnopenedPort asks a new generation for an answer on a port that it has not bound yet, but the live one has:
// the live one must not answer in its place.
func TestProofOfAnUnopenedPort(t *testing.T) {
	for _, mode := range []string{"http:%d/healthz", "tcp:%d"} {
		t.Run(mode[:strings.Index(mode, ":")], func(t *testing.T) {
			needPID1(t)
			t.Parallel()
			g, number := newGate(t), freeport.Choose(t)
			address := fmt.Sprintf("127.0.0.1:%d", number)
			slow := fmt.Sprintf(`until [ "$HOLDFAST_GENERATION" = 1 ] || [ -e %s ]; do sleep 0.05; done; exec %s %s`, g, harness.Naughty(t), address)
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: []string{"--settle", "100ms", "--ready-timeout", "10m", "--ready", fmt.Sprintf(mode, number)},
				Command: []string{"/bin/sh", "-c", slow},
			})
			h.WaitLive(1, within)
			h.Signal(syscall.SIGHUP)
			s := h.WaitStatus("generation 2 was asked, or is live", within, func(s *status.Snapshot) bool {
				last := s.Generations[len(s.Generations)-1]
				return last.Number == 2 && last.Detail != "" || s.Live == 2
			})
			if s.Live != 1 {
				t.Errorf("generation %d is live, and generation 2 does not listen", s.Live)
			}
			g.open(t)
			h.WaitLive(2, within)
		})
	}
}
