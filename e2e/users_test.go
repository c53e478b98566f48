package e2e

import (
	"syscall"
	"testing"

	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// TestOtherUser: what holdfast has to find out about the descriptors of a server, it finds out as a root without
// CAP_SYS_PTRACE about one of another user, too.
func TestOtherUser(t *testing.T) {
	needContainer(t)
	other := []string{"/usr/bin/setpriv", "--reuid=65532", "--regid=65532", "--clear-groups"}
	start := func(t *testing.T, p place, ways string, flags ...string) *harness.Holdfast {
		c := asDocker(t)
		flags = append([]string{"--takeover", "require", "--settle", "100ms", "--drain-timeout", "2m"}, flags...)
		return harness.Run(t, harness.Options{Container: &c, Flags: flags, Command: append(other, p.python(ways)...)})
	}
	t.Run("that it has closed its listener", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		h := start(t, p, "close-on=USR1")
		h.WaitLive(1, within)
		if g, err := askedAt(p.address()); err != nil || g != 1 {
			t.Fatalf("generation %d answered, %v", g, err)
		}
		h.Signal(syscall.SIGUSR1)
		h.Eventually("clients are refused", within, func() bool { return refusedAt(p.address()) })
		h.WaitLog("has closed this port.*"+p.address(), within)
		// The sockets go first, and the status tells of it after.
		h.WaitStatus("no port held", within, func(s *status.Snapshot) bool { return len(s.Ports) == 0 && s.Live == 1 })
	})
	t.Run("how many connections it has", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		h := start(t, p, "abrupt", "--drain-wait-connections")
		dieAtOnce(t, h, p, true, true)
		if n := h.CountLog("cannot count connections"); n != 0 {
			t.Errorf("connections could not be counted, %d times", n)
		}
	})
}
