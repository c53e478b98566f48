package measure

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/e2e/matrix/table"
	"holdfast/handoff/status"
)

const (
	// settle is shorter than holdfast's default of a second, which is for networks with longer ways than the loopback.
	settle = 200 * time.Millisecond
	// within bounds every wait. Some servers take seconds to start on a busy machine.
	within = time.Minute
	// calm is how much load there is, in seconds of it, before, between and after the handoffs.
	calm = 0.25
)

// Flags are holdfast's flags of every row.
func Flags() []string { return []string{"--settle", settle.String(), "--drain-timeout", "10s"} }

// Handoffs hands the row over n times under load, as PID 1 of a PID namespace of its own.
func Handoffs(t testing.TB, row table.Row, place table.Place, n int) Figures {
	t.Helper()
	argv, err := row.Argv(place)
	if err != nil {
		t.Fatal(err)
	}
	flags, err := row.HoldfastFlags(place)
	if err != nil {
		t.Fatal(err)
	}
	h := harness.Run(t, harness.Options{PID1: true, Flags: append(Flags(), flags...), Command: argv})
	h.WaitLive(1, within)

	rec := &recorder{}
	loads := start(t, row, place, rec)
	var windows []Window
	var took []time.Duration
	var cutovers []load.Cutover
	for i := 1; i <= n; i++ {
		flow(t, row, rec)
		s, window := handOver(t, h, i)
		windows = append(windows, window)
		took = append(took, s.Last.Ended.Sub(s.Last.Triggered))
		cutovers = append(cutovers, harness.Cutovers(&status.Snapshot{Recent: []status.Handoff{*s.Last}}, time.Millisecond)...)
	}
	flow(t, row, rec)
	s := h.WaitGone(within)
	flow(t, row, rec)

	f := finish(row, loads, rec, windows)
	f.Took = took
	if row.Tells {
		for _, l := range loads {
			f.Misled = append(f.Misled, l.Verify(cutovers)...)
		}
	}
	held(t, row, place, s)
	return f
}

// handOver performs one handoff and returns when the old generation has been told to stop.
func handOver(t testing.TB, h *harness.Holdfast, i int) (*status.Snapshot, Window) {
	t.Helper()
	h.Signal(syscall.SIGHUP)
	s := h.WaitHandoffs(uint64(i), within)
	if s.Last.Result != status.Completed {
		t.Fatalf("handoff %d: %s: %s", i, s.Last.Result, s.Last.Reason)
	}
	var stopped time.Time
	s = h.WaitStatus("the old generation has been told to stop", within, func(s *status.Snapshot) bool {
		for _, g := range s.Generations {
			if g.Number == i {
				stopped = g.StoppedAt
				if stopped.IsZero() {
					stopped = g.GoneAt
				}
			}
		}
		return !stopped.IsZero()
	})
	end := stopped
	if s.Last.Ended.After(end) {
		end = s.Last.Ended // a sequential handoff goes on
	}
	return s, Window{From: s.Last.Triggered, To: end.Add(settle)}
}

// held demands that holdfast has held just what the load went to: a handoff of a server that has bound the port past
// holdfast would prove nothing.
func held(t testing.TB, row table.Row, place table.Place, s *status.Snapshot) {
	t.Helper()
	for _, p := range s.Ports {
		if strings.HasSuffix(p.Port, ":"+place.Port) || row.Network == "unix" && strings.HasPrefix(p.Port, "unix:") {
			if p.Switch != "shared" {
				return
			}
		}
	}
	t.Errorf("held: %+v, want port %s", s.Ports, place.Port)
}

func start(t testing.TB, row table.Row, place table.Place, rec *recorder) []*load.Load {
	loads := row.Loads(place, rec.observe)
	for _, l := range loads {
		l.Start(t.Context())
	}
	return loads
}

func finish(row table.Row, loads []*load.Load, rec *recorder, windows []Window) Figures {
	for _, l := range loads {
		l.Stop()
	}
	return add(rec.requests(), windows, row.Excused)
}

// flow waits for some load.
func flow(t testing.TB, row table.Row, rec *recorder) {
	t.Helper()
	want := len(rec.requests()) + int(row.Rate*calm)
	for end := time.Now().Add(within); len(rec.requests()) < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the load does not flow: %d requests", len(rec.requests()))
		}
	}
}
