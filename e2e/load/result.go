package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Result is what became of a load, or of the part of it that is done.
type Result struct {
	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"elapsed_ns"`

	Requests     uint64             `json:"requests"` // all that ended, however
	ByOutcome    map[Outcome]uint64 `json:"by_outcome"`
	ByGeneration map[int]uint64     `json:"by_generation"` // answered with OK
	ByKind       map[Kind]uint64    `json:"by_kind"`
	Connections  uint64             `json:"connections"` // opened, or tried to

	// Retried counts requests on a kept connection that ended before any byte of an answer and were repeated once;
	// Reopened those whose kept connection was seen to be closed before anything was written.
	Retried  uint64 `json:"retried"`
	Reopened uint64 `json:"reopened"`
	// Late counts datagrams that came after their request had been given up (UDP only).
	Late uint64 `json:"late,omitempty"`

	P50     time.Duration `json:"p50_ns"` // of those that ended with OK
	P99     time.Duration `json:"p99_ns"`
	Max     time.Duration `json:"max_ns"`
	Slowest Request       `json:"slowest"`

	Failures []Request `json:"failures,omitempty"` // the first ones
}

// Lost is how many requests got no right answer.
func (r Result) Lost() uint64 { return r.Requests - r.ByOutcome[OK] }

// Generations lists the generations that answered, ascending.
func (r Result) Generations() []int { return slices.Sorted(maps.Keys(r.ByGeneration)) }

// String is a summary for a test's log: one line, and one more for each failure kept.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests on %d connections in %v:", r.Requests, r.Connections, r.Elapsed.Round(time.Millisecond))
	for _, o := range Outcomes() {
		if n := r.ByOutcome[o]; n > 0 || o == OK {
			fmt.Fprintf(&b, " %d %s,", n, o)
		}
	}
	fmt.Fprintf(&b, " %d retried, %d reopened", r.Retried, r.Reopened)
	for _, g := range r.Generations() {
		fmt.Fprintf(&b, ", g%d %d", g, r.ByGeneration[g])
	}
	fmt.Fprintf(&b, "; p50 %v, p99 %v, max %v", r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), r.Max.Round(time.Microsecond))
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "\n  %s %s in %s after %v at %s (reused %t, retried %t): %s", f.Kind, f.Outcome, f.Phase,
			f.Answered.Sub(f.Connect).Round(time.Microsecond), f.Answered.Format("15:04:05.000000"), f.Reused, f.Retried, f.Error)
	}
	return b.String()
}

// recorder adds up what the workers report. Its memory is bounded by the bounds it is made with.
type recorder struct {
	mu          sync.Mutex
	r           Result
	ended       time.Time
	latency     histogram
	maxFailures int
	seen        []seen // new connections, for verify
	maxSeen     int
	unseen      uint64 // those beyond maxSeen
}

func newRecorder(maxFailures, maxSeen int) *recorder {
	return &recorder{maxFailures: maxFailures, maxSeen: maxSeen, r: Result{
		ByOutcome: map[Outcome]uint64{}, ByGeneration: map[int]uint64{}, ByKind: map[Kind]uint64{},
	}}
}

func (rec *recorder) begin(t time.Time) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.r.Started = t
}

func (rec *recorder) end(t time.Time) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.ended = t
}

func (rec *recorder) late() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.r.Late++
}

func (rec *recorder) add(q Request) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	r := &rec.r
	r.Requests++
	r.ByOutcome[q.Outcome]++
	r.ByKind[q.Kind]++
	r.Connections += uint64(q.dials)
	if q.Retried {
		r.Retried++
	}
	if q.Reopened {
		r.Reopened++
	}
	if q.Outcome != OK {
		if len(r.Failures) < rec.maxFailures {
			r.Failures = append(r.Failures, q)
		}
		return
	}
	r.ByGeneration[q.Generation]++
	rec.latency.observe(q.Latency())
	if r.Slowest.Answered.IsZero() || q.Latency() > r.Slowest.Latency() {
		r.Slowest = q
	}
	if q.Reused {
		return // its connection may be as old as it likes: it says nothing about where a new one is led
	}
	if len(rec.seen) == rec.maxSeen {
		rec.unseen++
		return
	}
	rec.seen = append(rec.seen, seen{q.Connect.UnixNano(), q.Answered.UnixNano(), q.Generation})
}

func (rec *recorder) result() Result {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	r := rec.r
	r.ByOutcome, r.ByGeneration, r.ByKind = maps.Clone(r.ByOutcome), maps.Clone(r.ByGeneration), maps.Clone(r.ByKind)
	r.Failures = slices.Clone(r.Failures)
	r.Max = r.Slowest.Latency()
	r.P50, r.P99 = min(rec.latency.quantile(.5), r.Max), min(rec.latency.quantile(.99), r.Max)
	end := rec.ended
	if end.IsZero() {
		end = time.Now()
	}
	if !r.Started.IsZero() {
		r.Elapsed = end.Sub(r.Started)
	}
	return r
}
