package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// gate is a file for which a generation of naughty waits.
type gate string

func newGate(t *testing.T) gate { return gate(filepath.Join(t.TempDir(), "open")) }

func (g gate) open(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(string(g), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (g gate) close(t *testing.T) {
	t.Helper()
	if err := os.Remove(string(g)); err != nil {
		t.Fatal(err)
	}
}

// expectReady asks /readyz and checks the code and the checks that fail; what is not named holds.
func expectReady(t *testing.T, h *harness.Holdfast, when string, failing ...string) {
	t.Helper()
	code, body := h.Ready()
	want := http.StatusOK
	if len(failing) > 0 {
		want = http.StatusServiceUnavailable
	}
	if code != want {
		t.Errorf("%s: /readyz answers %d, want %d:\n%s", when, code, want, body)
	}
	for _, check := range []string{"live", "handoff", "shutdown"} {
		mark := "[+]" + check + " ok"
		for _, f := range failing {
			if f == check {
				mark = "[-]" + check + " failed"
			}
		}
		if !strings.Contains(body, mark) {
			t.Errorf("%s: want %q in\n%s", when, mark, body)
		}
	}
	if code, body := h.Live(); code != http.StatusOK {
		t.Errorf("%s: /livez answers %d: %s", when, code, body)
	}
}

// phaseIs waits until the handoff in flight is in a phase.
func phaseIs(h *harness.Holdfast, phase status.Phase) {
	h.WaitStatus("a handoff in phase "+string(phase), within, func(s *status.Snapshot) bool {
		return s.Handoff != nil && s.Handoff.Phase == phase
	})
}

// TestReadyzTellsTheHandoff walks through a container's life and asks /readyz at each step of it.
func TestReadyzTellsTheHandoff(t *testing.T) {
	t.Parallel()
	healthy := newGate(t)
	port := freeport.Choose(t)
	orders := filepath.Join(t.TempDir(), "orders")
	order := func(text string) {
		if err := os.WriteFile(orders, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	order("*:healthy-when=" + string(healthy))
	h := harness.Run(t, harness.Options{
		Flags: []string{"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--ready", "http:/healthz", "--ready-timeout", "1m",
			"--settle", "200ms", "--shutdown-delay", "10m"},
		Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY_FILE=" + orders},
	})
	h.WaitStatus("the first generation runs", within, func(s *status.Snapshot) bool {
		return len(s.Generations) == 1 && !s.Generations[0].Executed.IsZero()
	})
	expectReady(t, h, "slow first start", "live")
	if code, _ := h.Probe("/readyz?exclude=live"); code != http.StatusOK {
		t.Errorf("excluding live, /readyz answers %d before the first generation is ready", code)
	}
	healthy.open(t)
	h.WaitLive(1, within)
	expectReady(t, h, "first generation proven")

	healthy.close(t)
	h.Signal(syscall.SIGHUP)
	phaseIs(h, status.PhaseProve)
	expectReady(t, h, "new generation not proven yet", "handoff")
	if code, _ := h.Probe("/readyz?exclude=handoff"); code != http.StatusOK {
		t.Errorf("excluding handoff, /readyz answers %d while the old generation serves", code)
	}
	if code, _ := h.Probe("/readyz/live"); code != http.StatusOK {
		t.Errorf("/readyz/live answers %d while the old generation serves", code)
	}
	healthy.open(t)
	h.WaitLive(2, within)
	expectReady(t, h, "handoff completed")

	order("3:exit=3 *:ok")
	h.Signal(syscall.SIGHUP)
	s := h.WaitHandoffs(2, within)
	h.WaitStatus("generation 2 is confirmed", within, func(s *status.Snapshot) bool { return s.Ready.Handoff == "" })
	expectReady(t, h, "failed handoff, old generation confirmed")
	if s.Last.Result != status.FailedHandoff || !strings.Contains(s.Last.Reason, "exit code 3") || s.Live != 2 {
		t.Errorf("the handoff to a generation that exits: %+v, live %d", s.Last, s.Live)
	}

	h.Signal(syscall.SIGHUP)
	h.WaitLive(4, within)
	expectReady(t, h, "repaired")

	h.Signal(syscall.SIGTERM)
	h.WaitStatus("it is terminating", within, func(s *status.Snapshot) bool { return s.Terminating })
	expectReady(t, h, "shutdown delay: not ready, still serving", "shutdown")
	l := startLoad(t, fmt.Sprintf("127.0.0.1:%d", port))
	flow(t, l, 100)
	nothingLost(t, l, nil)
	h.Signal(syscall.SIGTERM) // a second one ends the delay
	if code := h.Wait(within); code != 0 {
		t.Errorf("exit code %d, want the child's 0", code)
	}
}

// TestReadyzTellsTheRollback: the check before a handoff, a generation that is not ready any more in its soak, and the
// old one that has to show that it is still ready before the gate opens again.
func TestReadyzTellsTheRollback(t *testing.T) {
	t.Parallel()
	healthy, checked := newGate(t), newGate(t)
	healthy.open(t)
	r := hold(t, "*:healthy-when="+string(healthy), "--ready", "http:/healthz", "--soak", "10m",
		"--check", fmt.Sprintf(`sh -c "until [ -e %s ]; do sleep 0.01; done"`, checked))
	r.WaitLive(1, within)
	l := startLoad(t, r.address)
	r.Signal(syscall.SIGHUP)
	phaseIs(r.Holdfast, status.PhaseCheck)
	expectReady(t, r.Holdfast, "the check runs", "handoff")
	checked.open(t)
	phaseIs(r.Holdfast, status.PhaseSoak)
	expectReady(t, r.Holdfast, "cut over, soaking")
	r.Eventually("generation 2 answers", within, func() bool { return l.Snapshot().ByGeneration[2] > 20 })
	healthy.close(t)
	s := r.WaitHandoffs(1, within)
	if s.Live != 1 || !s.Last.TurnedBack || !strings.Contains(s.Last.Reason, "turned back: http:/healthz: it answered 500") {
		t.Errorf("after a generation that is not ready any more in its soak, %d is live: %+v", s.Live, s.Last)
	}
	expectReady(t, r.Holdfast, "turned back, the old generation not confirmed", "handoff")
	healthy.open(t)
	r.WaitStatus("generation 1 is confirmed", within, func(s *status.Snapshot) bool { return s.Ready.Handoff == "" })
	expectReady(t, r.Holdfast, "turned back, the old generation confirmed")
	flow(t, l, 50)
	nothingLost(t, l, nil) // nobody has died: even what the failed one had begun is answered
	r.WaitGone(within)
}

// TestReadyzOfAWorker: a program without ports says by --ready how it proves itself, or stays unready; handoffs work in
// both cases.
func TestReadyzOfAWorker(t *testing.T) {
	t.Parallel()
	h := harness.Run(t, harness.Options{Flags: []string{"--settle", "100ms"}, Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=*:hang"}})
	h.WaitLog("it holds no port", within)
	expectReady(t, h, "a worker that says nothing of readiness", "live")
	h.Signal(syscall.SIGHUP)
	h.WaitStatus("generation 2 is live", within, func(s *status.Snapshot) bool { return s.Live == 2 && s.Ready.Live == "" })

	said := harness.Run(t, harness.Options{
		Flags: []string{"--ready", "delay:10ms"}, Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=*:hang"},
	})
	said.WaitLive(1, within)
	expectReady(t, said, "a worker that is ready by --ready delay")
}
