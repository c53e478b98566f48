package load

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func at(ms int) time.Time { return time.Unix(1_800_000_000, int64(ms)*1e6) }

func TestVerify(t *testing.T) {
	straight := []Cutover{{2, at(100), at(110)}, {3, at(200), at(210)}}
	back := []Cutover{{2, at(100), at(110)}, {1, at(200), at(210)}, {3, at(300), at(310)}}
	for name, c := range map[string]struct {
		cutovers          []Cutover
		connect, answered int
		generation        int
		wrong             string // a part of the report; "" = possible
	}{
		"before all":               {straight, 10, 20, 1, ""},
		"old, begun before":        {straight, 99, 150, 1, ""},
		"old, begun within":        {straight, 105, 150, 1, ""},
		"old, begun after":         {straight, 111, 150, 1, "the cutover to 2 was over"},
		"new, answered before":     {straight, 10, 99, 2, "the cutover to 2 began"},
		"new, answered within":     {straight, 10, 105, 2, ""},
		"new, over two":            {straight, 10, 250, 3, ""},
		"skipped":                  {straight, 10, 150, 3, "the cutover to 3 began"},
		"middle, late":             {straight, 211, 250, 2, "the cutover to 3 was over"},
		"middle, just in time":     {straight, 209, 250, 2, ""},
		"never live":               {straight, 250, 260, 7, "never the live one"},
		"turned back":              {back, 250, 260, 1, ""},
		"old while the new":        {back, 150, 160, 1, "the cutover to 1 began"},
		"new after the turn back":  {back, 211, 220, 2, "the cutover to 1 was over"},
		"turned back, then over":   {back, 311, 320, 1, "the cutover to 3 was over"},
		"after the turn back to 3": {back, 305, 320, 3, ""},
		"unsorted":                 {[]Cutover{straight[1], straight[0]}, 111, 150, 1, "the cutover to 2 was over"},
		"none":                     {nil, 1, 2, 9, ""},
		"inverted":                 {[]Cutover{{2, at(5), at(4)}}, 1, 2, 1, "ends before it begins"},
	} {
		rec := newRecorder(1, 10)
		rec.add(Request{Kind: NewConnection, Outcome: OK, Intended: at(c.connect), Connect: at(c.connect), Answered: at(c.answered), Generation: c.generation})
		got := rec.verify(c.cutovers)
		if c.wrong == "" && len(got) != 0 || c.wrong != "" && (len(got) != 1 || !strings.Contains(got[0], c.wrong)) {
			t.Errorf("%s: %q, want %q", name, got, c.wrong)
		}
	}
}

// TestVerifyIgnores: a re-used connection may go on with its old generation; a failure has none.
func TestVerifyIgnores(t *testing.T) {
	rec := newRecorder(1, 10)
	q := Request{Kind: KeepAlive, Reused: true, Outcome: OK, Connect: at(500), Answered: at(510), Generation: 1}
	rec.add(q)
	q.Kind, q.Reused, q.Outcome = NewConnection, false, Reset
	rec.add(q)
	cutovers := []Cutover{{2, at(100), at(110)}}
	if got := rec.verify(cutovers); len(got) != 0 {
		t.Errorf("%q", got)
	}
	q.Outcome = OK
	rec.add(q)
	if got := rec.verify(cutovers); len(got) != 1 {
		t.Errorf("%q", got)
	}
	for range 30 {
		rec.add(q)
	}
	got := rec.verify(cutovers)
	if last := got[len(got)-1]; len(rec.seen) != 10 || !strings.Contains(last, "21 connections were not kept") {
		t.Errorf("%d kept; %q", len(rec.seen), last)
	}
}

// TestVerifyLive: the same through real connections, to a server that turns at a known instant, and to one that goes on
// with the old generation for a while.
func TestVerifyLive(t *testing.T) {
	for name, late := range map[string]bool{"right": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			var generation atomic.Int64
			generation.Store(1)
			p := newPeer(t, "tcp", func(_ *peer, a asked) bool { return a.ok(int(generation.Load())) })
			l := New(Options{Address: p.addr})
			l.Start(t.Context())
			waitFor(t, l.Snapshot, func(r Result) bool { return r.ByGeneration[1] > 50 })
			c := Cutover{Generation: 2, Before: time.Now()}
			if !late {
				generation.Store(2)
			}
			c.After = time.Now()
			if answered := l.Snapshot().ByGeneration[1]; late {
				waitFor(t, l.Snapshot, func(r Result) bool { return r.ByGeneration[1] > answered+50 })
			}
			generation.Store(2)
			waitFor(t, l.Snapshot, func(r Result) bool { return r.ByGeneration[2] > 50 })
			r := l.Stop()
			wrong := l.Verify([]Cutover{c})
			if r.Lost() != 0 || (len(wrong) != 0) != late {
				t.Errorf("%v\n%q", r, wrong)
			}
		})
	}
}

func waitFor(t *testing.T, snapshot func() Result, ok func(Result) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(snapshot()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(snapshot())
		}
	}
}

// TestHistogram compares quantiles with those of the sorted values.
func TestHistogram(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h histogram
	if h.quantile(.5) != 0 {
		t.Error("a quantile of nothing")
	}
	var all []time.Duration
	for range 20_000 {
		d := time.Duration(1<<rng.IntN(34)) + time.Duration(rng.IntN(1_000_000))
		all = append(all, d)
		h.observe(d)
	}
	slices.Sort(all)
	for _, q := range []float64{.01, .25, .5, .9, .99, 1} {
		exact := all[max(int(q*float64(len(all)))-1, 0)]
		got := h.quantile(q)
		if got < exact-time.Microsecond || float64(got) > float64(exact)*1.04+2000 {
			t.Errorf("quantile %v: %v, exact %v", q, got, exact)
		}
	}
	for i := range buckets {
		if bucketOf(upper(i)) != i || i+1 < buckets && bucketOf(upper(i)+1) != i+1 {
			t.Fatalf("bucket %d ends at %v", i, upper(i))
		}
	}
	if h.observe(1e6 * time.Hour); h.quantile(1) <= 0 {
		t.Error("a value beyond the last bucket")
	}
}
