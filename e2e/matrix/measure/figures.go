// Package measure puts a load on one row of the matrix while it is handed over, or restarted in the usual way, and says
// what became of every request and how long it took, in the handoffs' time and outside of it.
package measure

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/e2e/load"
)

// Figures are what a load of one row came to.
type Figures struct {
	New  Tally `json:"new"`  // requests on connections of their own
	Kept Tally `json:"kept"` // requests on kept connections

	// During are the answered requests that overlap a handoff's time, from its trigger to the old generation's stop signal
	// and a settle time more; Outside are the others. Latencies count from when a request was due.
	During  Latency `json:"during"`
	Outside Latency `json:"outside"`

	// Took are the handoffs' lengths from trigger to completion; of restarts, how long new connections got no answer.
	Took []time.Duration `json:"took_ns"`
	// Misled tells of new connections that were answered by a generation which was not the live one.
	Misled []string `json:"misled,omitempty"`
	// Failures are the first failed requests.
	Failures []load.Request `json:"failures,omitempty"`
}

// Tally counts requests by what became of them.
type Tally struct {
	Requests int `json:"requests"`
	Refused  int `json:"refused"`
	Reset    int `json:"reset"`
	Failed   int `json:"failed"` // in any other way: no answer in time, a wrong one, half of one
	// Excused are those of Failed that the server itself refused in the words that the row has for it.
	Excused int `json:"excused,omitempty"`
	// Repeated are those on kept connections that were closed or reset before a byte of an answer, and that were answered
	// when they were repeated; by the cause.
	Repeated map[string]int `json:"repeated,omitempty"`
}

// Lost is how many requests got no right answer.
func (t Tally) Lost() int { return t.Refused + t.Reset + t.Failed }

// Latency is the distribution of some requests' latencies.
type Latency struct {
	Requests int           `json:"requests"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	Max      time.Duration `json:"max_ns"`
}

// Window is a stretch of time.
type Window struct{ From, To time.Time }

func (w Window) overlaps(r load.Request) bool {
	return r.Intended.Before(w.To) && r.Answered.After(w.From)
}

// maxFailures bounds what is kept of failed requests in detail.
const maxFailures = 10

// recorder keeps every request of a row's loads.
type recorder struct {
	mu  sync.Mutex
	all []load.Request
}

func (rec *recorder) observe(r load.Request) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.all = append(rec.all, r)
}

// requests returns what ended so far.
func (rec *recorder) requests() []load.Request {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.all[:len(rec.all):len(rec.all)]
}

// add adds all up. excused is as in table.Row.
func add(all []load.Request, windows []Window, excused string) Figures {
	var f Figures
	var during, outside []time.Duration
	for _, r := range all {
		tally := &f.New
		if r.Kind == load.KeepAlive {
			tally = &f.Kept
		}
		tally.count(r, excused)
		if r.Outcome != load.OK {
			if len(f.Failures) < maxFailures {
				f.Failures = append(f.Failures, r)
			}
			continue
		}
		if slices.ContainsFunc(windows, func(w Window) bool { return w.overlaps(r) }) {
			during = append(during, r.Latency())
		} else {
			outside = append(outside, r.Latency())
		}
	}
	f.During, f.Outside = latency(during), latency(outside)
	return f
}

func (t *Tally) count(r load.Request, excused string) {
	t.Requests++
	switch r.Outcome {
	case load.OK:
	case load.Refused:
		t.Refused++
	case load.Reset:
		t.Reset++
	default:
		t.Failed++
		if excused != "" && r.Outcome == load.Bad && strings.Contains(r.Error, excused) {
			t.Excused++
		}
	}
	if r.Retried {
		if t.Repeated == nil {
			t.Repeated = map[string]int{}
		}
		t.Repeated[cause(r.Cause)]++
	}
}

// cause says in packets how the first attempt of a repeated request ended.
func cause(err string) string {
	switch {
	case strings.Contains(err, "reset by peer"), strings.Contains(err, "broken pipe"):
		return "RST"
	default:
		return "FIN"
	}
}

func latency(all []time.Duration) Latency {
	if len(all) == 0 {
		return Latency{}
	}
	slices.Sort(all)
	rank := func(q float64) time.Duration { return all[min(int(q*float64(len(all))), len(all)-1)] }
	return Latency{Requests: len(all), P50: rank(.5), P99: rank(.99), Max: all[len(all)-1]}
}

// outages returns, for each window, how long new connections failed in it: from when the first one that failed was due
// until one that was begun after the last failure had its answer. 0 when none failed.
func outages(all []load.Request, windows []Window) []time.Duration {
	fresh := slices.DeleteFunc(slices.Clone(all), func(r load.Request) bool { return r.Kind != load.NewConnection })
	slices.SortFunc(fresh, func(a, b load.Request) int { return cmp.Compare(a.Answered.UnixNano(), b.Answered.UnixNano()) })
	took := make([]time.Duration, len(windows))
	for i, w := range windows {
		took[i] = outage(fresh, w)
	}
	return took
}

func outage(fresh []load.Request, w Window) time.Duration {
	var first, last time.Time
	for _, r := range fresh {
		if r.Outcome == load.OK || !w.overlaps(r) {
			continue
		}
		if first.IsZero() || r.Intended.Before(first) {
			first = r.Intended
		}
		if r.Connect.After(last) {
			last = r.Connect
		}
	}
	if first.IsZero() {
		return 0
	}
	for _, r := range fresh {
		if r.Outcome == load.OK && r.Connect.After(last) {
			return r.Answered.Sub(first)
		}
	}
	return w.To.Sub(first)
}
