package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// TestSighupInEveryPhase sends a SIGHUP during the first start and during each phase of a handoff: it is remembered,
// harmless, and answered by one handoff that begins after it. The phases that no gate holds open are long in the case that
// is about them.
func TestSighupInEveryPhase(t *testing.T) {
	for _, c := range []struct {
		name  string
		phase status.Phase // "" = the first start
	}{
		{"first start", ""}, {"check", status.PhaseCheck}, {"prove", status.PhaseProve}, {"soak", status.PhaseSoak}, {"settle", status.PhaseSettle},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			healthy, checked := newGate(t), newGate(t)
			settle, soak := "200ms", "200ms"
			switch c.phase {
			case status.PhaseSettle:
				settle = "15s"
			case status.PhaseSoak:
				soak = "15s"
			}
			r := hold(t, "*:healthy-when="+string(healthy), "--ready", "http:/healthz", "--settle", settle, "--soak", soak,
				"--check", fmt.Sprintf(`sh -c "until [ -e %s ]; do sleep 0.01; done"`, checked))
			r.WaitStatus("the first generation runs", within, func(s *status.Snapshot) bool {
				return len(s.Generations) == 1 && !s.Generations[0].Executed.IsZero()
			})
			if c.phase == "" {
				r.Signal(syscall.SIGHUP)
				r.WaitStatus("it is remembered", within, func(s *status.Snapshot) bool { return s.Pending })
				healthy.open(t)
				checked.open(t)
				r.expectEnd(t, 2, 1)
				return
			}
			healthy.open(t)
			r.WaitLive(1, within)
			l := startLoad(t, r.address)
			healthy.close(t)
			r.Signal(syscall.SIGHUP)
			for _, at := range []status.Phase{status.PhaseCheck, status.PhaseProve, c.phase} {
				phaseIs(r.Holdfast, at)
				if at == c.phase {
					r.Signal(syscall.SIGHUP)
					r.WaitStatus("it is remembered", within, func(s *status.Snapshot) bool { return s.Pending })
				}
				switch at {
				case status.PhaseCheck:
					checked.open(t)
				case status.PhaseProve:
					healthy.open(t)
				}
				if at == c.phase {
					break
				}
			}
			checked.open(t)
			healthy.open(t)
			r.expectEnd(t, 3, 2)
			flow(t, l, 50)
			nothingLost(t, l, nil)
		})
	}
}

// expectEnd waits until generation is live and alone, after so many handoffs, all of them completed.
func (r run) expectEnd(t *testing.T, generation int, handoffs uint64) {
	t.Helper()
	r.WaitLive(generation, within)
	s := r.WaitGone(within)
	if got, all := harness.Handoffs(s, status.Completed), harness.Handoffs(s, ""); got != handoffs || all != handoffs {
		t.Errorf("%d of %d handoffs completed, want %d of as many", got, all, handoffs)
	}
	if s.Live != generation {
		t.Errorf("generation %d is live, want %d", s.Live, generation)
	}
}

// TestStorm sends 200 SIGHUPs within a second, under load: at most two handoffs, nothing lost, no generation left behind.
// A machine that takes longer over the 200 holds up the first handoff as well: it can't complete before the last one.
func TestStorm(t *testing.T) {
	t.Parallel()
	healthy := newGate(t)
	healthy.open(t)
	r := hold(t, "*:healthy-when="+string(healthy), "--ready", "http:/healthz")
	r.WaitLive(1, within)
	healthy.close(t)
	l := startLoad(t, r.address)
	tick := time.NewTicker(time.Second / 200)
	defer tick.Stop()
	for range 200 {
		r.Signal(syscall.SIGHUP)
		<-tick.C
	}
	healthy.open(t)
	r.WaitStatus("the storm is over", within, func(s *status.Snapshot) bool { return s.Handoff == nil && !s.Pending && s.Live > 1 })
	s := r.WaitGone(within)
	if n := harness.Handoffs(s, ""); n > 2 {
		t.Errorf("%d handoffs, want at most two", n)
	}
	nothingLost(t, l, nil)
	if n := len(r.Descendants()); n != 1 {
		t.Errorf("%d processes are left, want one", n)
	}
}

// TestWatch: a mounted ConfigMap that changes is one handoff; the same content again is none; a broken one is rolled
// back and reported; the repaired one is a handoff again.
func TestWatch(t *testing.T) {
	t.Parallel()
	v := newVolume(t, map[string]string{"orders": "*:ok", "other": "1"})
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	h := harness.Run(t, harness.Options{
		Flags:   []string{"--listen", address, "--settle", "100ms", "--watch", v.dir, "--watch-debounce", "50ms"},
		Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY_FILE=" + v.path("orders")},
	})
	first := h.WaitLive(1, within)
	if first.ConfigHash == "" {
		t.Error("the first generation's configuration has no hash")
	}
	l := startLoad(t, address)
	v.publish(t, map[string]string{"orders": "*:ok", "other": "2"})
	second := h.WaitLive(2, within)
	if second.ConfigHash == first.ConfigHash || second.Last.Trigger != "watch" {
		t.Errorf("after a change: hash %s → %s, %+v", first.ConfigHash, second.ConfigHash, second.Last)
	}
	v.publish(t, map[string]string{"orders": "*:ok", "other": "2"}) // the same again: nothing
	v.publish(t, map[string]string{"orders": "3:exit=9 *:ok", "other": "2"})
	h.WaitHandoffs(2, within)
	broken := h.WaitGone(within)
	if broken.Live != 2 || !strings.Contains(broken.Last.Reason, "exit code 9") || broken.ConfigHash != second.ConfigHash {
		t.Errorf("after a broken change generation %d is live with configuration %s: %+v", broken.Live, broken.ConfigHash, broken.Last)
	}
	v.publish(t, map[string]string{"orders": "*:ok", "other": "3"})
	h.WaitLive(4, within)
	h.WaitGone(within)
	nothingLost(t, l, nil)
	if s := h.Status(); harness.Handoffs(s, "") != 3 {
		t.Errorf("handoffs: %v, want three", s.Counters.Handoffs)
	}
	if m := h.Metrics(); !strings.Contains(m, "holdfast_config_hash_info{hash=\""+h.Status().ConfigHash+"\"} 1") {
		t.Errorf("the metrics do not name the configuration:\n%s", m)
	}
}

// TestReloadCommand: with --wait the exit code tells the outcome, without it the asking.
func TestReloadCommand(t *testing.T) {
	needPID1(t)
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	h := harness.Run(t, harness.Options{
		PID1: true, Unprivileged: true, Flags: []string{"--listen", address, "--settle", "100ms"},
		Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=3:exit=1 *:ok"},
	})
	h.WaitLive(1, within)
	if code, out := h.Command("reload", "--wait"); code != 0 || !strings.Contains(out, "generation 2 is live") {
		t.Errorf("reload --wait: exit code %d: %s", code, out)
	}
	if code, out := h.Command("reload", "--wait"); code != 1 || !strings.Contains(out, "exit code 1") {
		t.Errorf("reload --wait to a generation that exits: exit code %d: %s", code, out)
	}
	if code, out := h.Command("reload"); code != 0 {
		t.Errorf("reload: exit code %d: %s", code, out)
	}
	h.WaitLive(4, within)
	if code, out := h.Command("status"); code != 0 || !strings.Contains(out, "live: generation 4") {
		t.Errorf("status: exit code %d:\n%s", code, out)
	}
	if code, out := h.Command("status", "-o", "json"); code != 0 || !strings.Contains(out, `"live": 4`) {
		t.Errorf("status -o json: exit code %d:\n%s", code, out)
	}
	for _, probe := range []string{"ready", "live"} {
		if code, out := h.Command("probe", probe); code != 0 {
			t.Errorf("probe %s: exit code %d: %s", probe, code, out)
		}
	}
}

// TestProbesOff: without a probe address nothing listens, and the commands work all the same.
func TestProbesOff(t *testing.T) {
	t.Parallel()
	h := harness.Run(t, harness.Options{
		NoProbes: true, Flags: []string{"--ready", "delay:0s", "--shutdown-delay", "1m"},
		Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=*:hang"},
	})
	h.Eventually("holdfast probe ready says yes", within, func() bool { code, _ := h.Command("probe", "ready"); return code == 0 })
	for _, target := range h.FDTargets() {
		if strings.HasPrefix(target, "socket:") && listensOnTCP(t, target) {
			t.Errorf("it listens: %s", target)
		}
	}
	h.Signal(syscall.SIGTERM)
	h.Eventually("holdfast probe ready says no", within, func() bool { code, _ := h.Command("probe", "ready"); return code == 1 })
	if code, out := h.Command("probe", "live"); code != 0 {
		t.Errorf("probe live while it shuts down: exit code %d: %s", code, out)
	}
}

// listensOnTCP says whether a socket, as /proc/PID/fd names it, is in the kernel's table of TCP sockets.
func listensOnTCP(t *testing.T, target string) bool {
	t.Helper()
	inode := strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), " "+inode+" ") {
			return true
		}
	}
	return false
}
