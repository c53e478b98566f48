package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// run is one holdfast with naughty behind a held port.
type run struct {
	*harness.Holdfast
	address string
	orders  string
}

// hold starts holdfast with naughty behind a held port; orders are naughty's.
func hold(t *testing.T, orders string, flags ...string) run {
	t.Helper()
	r := run{address: fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t)), orders: filepath.Join(t.TempDir(), "orders")}
	r.order(t, orders)
	r.Holdfast = harness.Run(t, harness.Options{
		Flags:   append([]string{"--listen", r.address, "--settle", "200ms"}, flags...),
		Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY_FILE=" + r.orders},
	})
	return r
}

func (r run) order(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(r.orders, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestBadGenerations starts, under load, new generations that fail in every way there is: the live one goes on answering
// as if nothing were, and who waits for the handoff, the metrics and the log are told why.
func TestBadGenerations(t *testing.T) {
	for name, c := range map[string]struct {
		orders, reason string
		flags          []string
	}{
		"exits at once":                   {orders: "1:ok *:exit=3", reason: "exit code 3"},
		"never gets ready":                {orders: "1:ok *:noaccept", reason: "not ready within 500ms", flags: []string{"--ready-timeout", "500ms"}},
		"hangs":                           {orders: "1:ok *:hang", reason: "not ready within 500ms", flags: []string{"--ready-timeout", "500ms"}},
		"answers 500":                     {orders: "1:ok *:healthy-when=/nonexistent", reason: "http:/healthz: it answered 500 Internal Server Error", flags: []string{"--ready", "http:/healthz", "--ready-timeout", "10s"}},
		"crashes right after its cutover": {orders: "1:ok *:crash-after-request=0s", reason: "turned back: exit code 70", flags: []string{"--settle", "1m"}},
		"fails its check":                 {orders: "*:ok", reason: "no good", flags: []string{"--check", `sh -c "echo no good; exit 1"`}},
		"hangs in its check":              {orders: "*:ok", reason: "the check did not end within 500ms", flags: []string{"--check", "sleep 600", "--ready-timeout", "500ms"}},
		"has a check that is not there":   {orders: "*:ok", reason: "not-there", flags: []string{"--check", "not-there"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := hold(t, c.orders, c.flags...)
			r.WaitLive(1, within)
			l := startLoad(t, r.address)
			flow(t, l, 50)
			mark := r.Mark()
			code, out := r.Command("reload", "--wait")
			if code != 1 || !strings.Contains(out, c.reason) || !strings.Contains(out, "generation 1 is live") {
				t.Errorf("holdfast reload --wait: exit code %d, want 1, and %q in %q", code, c.reason, out)
			}
			r.WaitLogAfter(mark, "handoff failed.*"+c.reason, within)
			flow(t, l, 50)
			s := r.WaitGone(within)
			if s.Live != 1 {
				t.Errorf("generation %d is live, want 1", s.Live)
			}
			r.WaitStatus("generation 1 is confirmed", within, func(s *status.Snapshot) bool { return s.Ready.Handoff == "" })
			result := l.Stop()
			if crashed := strings.HasPrefix(name, "crashes"); result.Lost() != 0 && !crashed {
				t.Errorf("lost: %v\n%+v", result, result.Failures)
			} else if crashed {
				onlyDead(t, result)
			}
			if m := r.Metrics(); !strings.Contains(m, `holdfast_handoffs_total{result="failed",trigger="command"} 1`) ||
				!strings.Contains(m, "holdfast_last_handoff_successful 0") {
				t.Errorf("the metrics do not say that the handoff failed:\n%s", m)
			}
			expectReady(t, r.Holdfast, "after a failed handoff")
		})
	}
}

// onlyDead checks that nothing was lost but what the generation that crashed had accepted: a request that it took with
// it can not be saved by anybody. Nothing was refused, and nobody waited in vain.
func onlyDead(t *testing.T, r load.Result) {
	t.Helper()
	if refused, timeout := r.ByOutcome[load.Refused], r.ByOutcome[load.Timeout]; refused+timeout != 0 {
		t.Errorf("%d refused, %d timed out: %+v", refused, timeout, r.Failures)
	}
	for _, f := range r.Failures {
		if f.Phase == load.PhaseConnect {
			t.Errorf("lost while connecting: %+v", f)
		}
	}
}

// TestSoakTurnsBack: a generation that dies in the soak, a second after its cutover, is as if it had never been: the old
// one answers again at once, also what was queued on the dead one.
func TestSoakTurnsBack(t *testing.T) {
	t.Parallel()
	crash := newGate(t)
	r := hold(t, "1:ok 2:crash-when="+string(crash)+" *:ok", "--soak", "10m")
	r.WaitLive(1, within)
	l := startLoad(t, r.address)
	flow(t, l, 50)
	r.Signal(syscall.SIGHUP)
	r.WaitStatus("generation 2 is live", within, func(s *status.Snapshot) bool { return s.Live == 2 })
	r.Eventually("generation 2 answers", within, func() bool { return l.Snapshot().ByGeneration[2] > 50 })
	crash.open(t)
	s := r.WaitHandoffs(1, within)
	if s.Live != 1 || s.Last.Result != status.FailedHandoff || !s.Last.TurnedBack || s.Last.Reason != "turned back: exit code 70" {
		t.Errorf("after the soak failed, generation %d is live: %+v", s.Live, s.Last)
	}
	answered := l.Snapshot().ByGeneration[1]
	r.Eventually("generation 1 answers again", within, func() bool { return l.Snapshot().ByGeneration[1] > answered+100 })
	result := l.Stop()
	onlyDead(t, result)
	t.Logf("%v", result)
	r.WaitGone(within)
}

// TestSoakTurnsBackFromTheHung: what does not answer in its soak is not ready, although it does not say so.
func TestSoakTurnsBackFromTheHung(t *testing.T) {
	t.Parallel()
	hang := newGate(t)
	r := hold(t, "*:ok", "--soak", "10m", "--ready", `exec:sh -c "test ! -e `+string(hang)+` || exec sleep 1000"`)
	r.WaitLive(1, within)
	r.Signal(syscall.SIGHUP)
	r.WaitStatus("generation 2 is live", within, func(s *status.Snapshot) bool { return s.Live == 2 })
	hang.open(t)
	s := r.WaitHandoffs(1, within)
	if s.Live != 1 || !s.Last.TurnedBack || !strings.Contains(s.Last.Reason, "no answer within 1s") {
		t.Errorf("generation %d is live: %+v", s.Live, s.Last)
	}
	r.WaitGone(within)
}

// TestSoakAnswersWhatIsQueued holds a generation's accept queue filled while it dies in its soak.
func TestSoakAnswersWhatIsQueued(t *testing.T) {
	t.Parallel()
	// Wedged, and ready only because nobody asks it: what comes after the cutover stays in its queue.
	crash := newGate(t)
	r := hold(t, "1:ok 2:noaccept,crash-when="+string(crash)+" *:ok", "--soak", "10m", "--ready", "delay:300ms")
	r.WaitLive(1, within)
	r.Signal(syscall.SIGHUP)
	r.WaitStatus("generation 2 is live", within, func(s *status.Snapshot) bool { return s.Live == 2 })
	l := load.New(load.Options{Address: r.address, NewWorkers: 20, MaxRequests: 200, Timeout: within})
	l.Start(t.Context())
	r.Eventually("20 connections are queued", within, func() bool { return queuedOn(r, 2) == 20 })
	crash.open(t)
	r.WaitHandoffs(1, within)
	r.Eventually("all are answered", within, func() bool { return l.Snapshot().Requests == 200 })
	result := l.Stop()
	if result.Lost() != 0 || result.ByGeneration[1] == 0 {
		t.Errorf("%v\n%+v", result, result.Failures)
	}
	s := r.WaitGone(within)
	if s.Live != 1 || s.Counters.Relayed != 20 {
		t.Errorf("generation %d is live, %d stragglers were relayed, want the 20", s.Live, s.Counters.Relayed)
	}
}

// TestSoakRelaysFromTheStubborn: a generation that is not ready any more in its soak is alive, does not accept and does
// not end. What is queued on it is answered at once all the same.
func TestSoakRelaysFromTheStubborn(t *testing.T) {
	t.Parallel()
	ready := newGate(t)
	ready.open(t)
	r := hold(t, "1:ok 2:noaccept,linger-until="+string(newGate(t))+" *:ok", "--soak", "10m", "--drain-timeout", "10m", "--ready", "exec:test -e "+string(ready))
	r.WaitLive(1, within)
	r.Signal(syscall.SIGHUP)
	r.WaitStatus("generation 2 is live", within, func(s *status.Snapshot) bool { return s.Live == 2 })
	l := load.New(load.Options{Address: r.address, NewWorkers: 20, MaxRequests: 200, Timeout: within})
	l.Start(t.Context())
	r.Eventually("20 connections are queued", within, func() bool { return queuedOn(r, 2) == 20 })
	ready.close(t)
	s := r.WaitHandoffs(1, within)
	if s.Live != 1 || !s.Last.TurnedBack || !strings.Contains(s.Last.Reason, "exit code 1") {
		t.Errorf("generation %d is live: %+v", s.Live, s.Last)
	}
	r.Eventually("all are answered", within, func() bool { return l.Snapshot().Requests == 200 })
	if result := l.Stop(); result.Lost() != 0 || result.ByGeneration[1] != result.Requests {
		t.Errorf("%v\n%+v", result, result.Failures)
	}
	s = r.Status()
	if !slices.Equal(numbers(s), []int{1, 2}) || s.Counters.Relayed != 20 {
		t.Errorf("the generations %v are left, %d stragglers were relayed, want the 20", numbers(s), s.Counters.Relayed)
	}
}

// queuedOn is how many connections wait in a generation's accept queues.
func queuedOn(r run, generation int) (n int) {
	for _, q := range r.Document().Queues {
		if q.Generation == generation {
			n += q.Length
		}
	}
	return n
}

// TestKilledLive kills the live generation with connections in its accept queue.
func TestKilledLive(t *testing.T) {
	t.Parallel()
	t.Run("restart", func(t *testing.T) {
		t.Parallel()
		r := hold(t, "1:accept-after=1h *:ok", "--restart", "on-failure", "--ready", "delay:0s")
		s := r.WaitLive(1, within)
		l := load.New(load.Options{Address: r.address, NewWorkers: 20, MaxRequests: 100, Timeout: within})
		l.Start(t.Context())
		r.Eventually("20 connections are queued", within, func() bool { return r.Document().Queues[0].Length == 20 })
		kill(t, s.Generations[0].PID)
		r.WaitLive(2, within)
		r.Eventually("all 100 requests have ended", within, func() bool { return l.Snapshot().Requests == 100 })
		if result := l.Stop(); result.Lost() != 0 || result.ByGeneration[2] != 100 {
			t.Errorf("%v\n%+v", result, result.Failures)
		}
	})
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		r := hold(t, "*:ok")
		s := r.WaitLive(1, within)
		kill(t, s.Generations[0].PID)
		if code := r.Wait(within); code != 137 {
			t.Errorf("exit code %d, want 137", code)
		}
	})
	t.Run("crash loop", func(t *testing.T) {
		t.Parallel()
		r := hold(t, "1:crash-after=100ms 2:exit=1 3:exit=1 *:ok", "--restart", "always")
		r.WaitLive(4, within)
		if s := r.Status(); harness.Handoffs(s, status.FailedHandoff) != 2 || harness.Handoffs(s, status.Completed) != 1 {
			t.Errorf("handoffs: %v", s.Counters.Handoffs)
		}
		if m := r.Metrics(); !strings.Contains(m, "\nholdfast_restarts_total 3\n") {
			t.Errorf("three generations were started because the live one had exited, and the metrics say:\n%s", m)
		}
		for attempt := 1; attempt <= 3; attempt++ { // each pause is twice the one before, and a tenth more at most
			r.WaitLog(fmt.Sprintf("restart after a pause.*attempt=%d pause=%d[0-9]{2}ms", attempt, 1<<(attempt-1)), within)
		}
		l := startLoad(t, r.address)
		flow(t, l, 100)
		nothingLost(t, l, nil)
	})
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// TestStubbornDescendants: a child that ignores SIGTERM, and its grandchild in another session, are both gone after the
// drain timeout.
func TestStubbornDescendants(t *testing.T) {
	needPID1(t)
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	h := harness.Run(t, harness.Options{
		PID1:    true,
		Flags:   []string{"--listen", address, "--settle", "100ms", "--drain-timeout", "500ms"},
		Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=1:ignore-term,grandchild *:ok"},
	})
	h.WaitLive(1, within)
	if n := len(h.Descendants()); n != 2 {
		t.Fatalf("generation 1 has %d processes, want the child and its grandchild", n)
	}
	h.Signal(syscall.SIGHUP)
	h.WaitLive(2, within)
	s := h.WaitGone(within)
	if n := len(h.Descendants()); n != 1 {
		t.Errorf("%d processes are left, want generation 2's only: %+v", n, h.Descendants())
	}
	if s.Live != 2 || h.Zombies() != 0 {
		t.Errorf("generation %d is live, %d zombies", s.Live, h.Zombies())
	}
}
