package chaos

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/e2e/servers"
	"holdfast/handoff/status"
)

const (
	fewSoaked = 48
	fullSoak  = 2000 // from here on it goes into the page
	soakUID   = 61_100
	samples   = 16 // how often is looked, at even distances
)

// soaked is what a soak comes to.
type soaked struct {
	Handoffs uint64        `json:"handoffs"`
	Started  uint64        `json:"generations_started"`
	Gone     uint64        `json:"generations_gone"`
	Requests uint64        `json:"requests"`
	Lost     uint64        `json:"lost"`
	Slowest  time.Duration `json:"slowest_ns"`
	Samples  []sample      `json:"samples"`
	Took     time.Duration `json:"took_ns"`
}

// sample is what holdfast had after so many handoffs.
type sample struct {
	After     uint64    `json:"after_handoffs"`
	Resources resources `json:"resources"`
}

// TestSoak hands a server over that binds for itself, again and again, under load. Whatever it is looked for, nothing may
// be more at the end than it was when the first quarter was over.
func TestSoak(t *testing.T) {
	n := *handoffs
	if n == 0 {
		n = fewSoaked
	}
	l := newLane(t, server{
		name: "a Go server, takeover", flags: []string{"--settle", "10ms"},
		command: func(p servers.Place) []string { return []string{harness.Naughty(t), p.Host + ":" + p.Port} },
	}, soakUID)
	began := time.Now()
	l.h.WaitLive(1, patience)
	l.load = load.New(load.Options{
		Address: l.address(), NewWorkers: 2, KeepAliveWorkers: 2, Think: 10 * time.Millisecond, Timeout: patience, Duration: time.Hour, MaxRecords: 1,
	})
	l.load.Start(t.Context())
	var s soaked
	every := max(n/samples, 1)
	for i := 1; i <= n; i++ {
		l.h.Signal(syscall.SIGHUP)
		l.h.WaitStatus("the next generation is live", patience, func(now *status.Snapshot) bool {
			if harness.Handoffs(now, status.FailedHandoff) > 0 {
				t.Fatalf("handoff %d failed: %+v", i, now.Last)
			}
			return now.Live == i+1 && now.Handoff == nil && !now.Pending
		})
		if i%every == 0 {
			l.h.WaitGone(patience)
			s.Samples = append(s.Samples, sample{uint64(i), l.steady(s.Samples)})
			t.Logf("after %d handoffs: %v", i, s.Samples[len(s.Samples)-1].Resources)
		}
	}
	end := l.h.WaitGone(patience)
	r := l.load.Stop()
	t.Log(shortened(r))
	s.Handoffs, s.Started, s.Gone = harness.Handoffs(end, status.Completed), uint64(n+1), uint64(l.h.CountLog(`msg="generation gone"`))
	s.Requests, s.Lost, s.Slowest, s.Took = r.Requests, r.Lost(), r.Max, time.Since(began)
	for _, f := range r.Failures {
		t.Errorf("lost: %+v", f)
	}
	if s.Handoffs != uint64(n) || s.Gone != s.Started-1 {
		t.Errorf("%d handoffs completed, want %d; %d generations are gone, want %d", s.Handoffs, n, s.Gone, n)
	}
	nothingGrows(t, s.Samples)
	l.h.Signal(syscall.SIGTERM)
	l.h.Wait(patience)
	if !t.Failed() && n >= fullSoak {
		keep(t, func(r *recorded) { r.Soak = &s })
	}
}

// steady looks until what was there at the first look is not exceeded: what a request or a look has of its own just now
// goes by itself.
func (l *lane) steady(before []sample) (r resources) {
	for deadline := time.Now().Add(patience / 3); ; time.Sleep(20 * time.Millisecond) {
		r = l.resources()
		if len(before) == 0 || r.within(before[0].Resources) && r.Zombies == 0 || time.Now().After(deadline) {
			return r
		}
	}
}

// nothingGrows compares the last quarter with the second one: by then all is there that is made once.
func nothingGrows(t *testing.T, all []sample) {
	t.Helper()
	quarter := len(all) / 4
	if quarter == 0 {
		t.Fatalf("%d samples: that shows nothing", len(all))
	}
	most := func(of []sample, what func(resources) int) int {
		return what(slices.MaxFunc(of, func(a, b sample) int { return what(a.Resources) - what(b.Resources) }).Resources)
	}
	for _, c := range []struct {
		name  string
		what  func(resources) int
		slack int // what it may differ by without growing
	}{
		{"descriptors", func(r resources) int { return r.Descriptors }, 2},
		{"goroutines", func(r resources) int { return r.Goroutines }, 2},
		{"threads", func(r resources) int { return r.Threads }, 2},
		{"zombies", func(r resources) int { return r.Zombies }, 0},
		{"sockets that listen on the port", func(r resources) int { return r.Members }, 1},
		{"KiB of memory", func(r resources) int { return int(r.KiB) }, 3 << 10},
	} {
		early, late := most(all[quarter:2*quarter], c.what), most(all[len(all)-quarter:], c.what)
		if late > early+c.slack {
			t.Errorf("%s grow: %d in the second quarter, %d in the last", c.name, early, late)
		}
	}
	if last := all[len(all)-1].Resources; last.Zombies != 0 || last.Members > 2 {
		t.Errorf("at the end: %v", last)
	}
}
