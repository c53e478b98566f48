// Package bad measures the paths where a restart goes wrong: the new generation exits at once, dies soon after its start,
// never gets ready, or stops answering when it is live; and twenty reloads in a row, faster than a start. What counts is what
// the users of the port lose, and for how long.
package bad

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/e2e/bench/peers"
	"holdfast/e2e/bench/subject"
	"holdfast/e2e/bench/traffic"
)

// Options bound the measurement.
type Options struct {
	Tools    peers.Tools
	Peers    []peers.Peer
	Watch    time.Duration // from the reload on
	Wedge    time.Duration // the same for a generation that wedges: to notice that takes longer
	Together int           // how many peers are measured side by side: each has little load
	Over     func() bool   // says that the time is over: what is not measured by then is not
	Note     func(format string, args ...any)
}

// Result is one peer on one path.
type Result struct {
	Peer     string        `json:"peer"`
	Server   string        `json:"server"`
	Holdfast bool          `json:"holdfast,omitempty"`
	Fault    subject.Fault `json:"fault"`

	Requests int     `json:"requests"`
	Lost     int     `json:"lost"`
	Late     int     `json:"late"`              // answered, but only after more than a second
	Outage   float64 `json:"outage_s"`          // seconds in which most requests were lost or late
	Watched  float64 `json:"watched_s"`         // from the reload on
	Lasting  bool    `json:"lasting,omitempty"` // it was out at the end, and would have been until somebody came
}

const (
	rate    = 100
	timeout = 2 * time.Second
	late    = time.Second
	slice   = 100 * time.Millisecond
	calm    = 500 * time.Millisecond
	reloads = 20
	pause   = 10 * time.Millisecond // between those
)

// Measure measures every peer on each path that its server can take.
func Measure(o Options) ([]Result, error) {
	var results []Result
	for _, fault := range []subject.Fault{subject.Exit, subject.Crash, subject.Never, subject.Wedge, subject.Slow} {
		var able []peers.Peer
		for _, p := range o.Peers {
			if slices.Contains(p.Faults, fault) {
				able = append(able, p)
			}
		}
		for some := range slices.Chunk(able, o.Together) {
			if o.Over() {
				return results, errors.New("the time was over before all was measured")
			}
			r, err := o.sideBySide(some, fault)
			if err != nil {
				return results, err
			}
			results = append(results, r...)
		}
	}
	return results, nil
}

func (o Options) sideBySide(some []peers.Peer, fault subject.Fault) ([]Result, error) {
	results, errs := make([]Result, len(some)), make([]error, len(some))
	running := make([]*peers.Running, len(some))
	defer func() {
		for _, r := range running {
			if r != nil {
				_ = r.Stop()
			}
		}
	}()
	for i, p := range some { // one after the other: a start is no part of it
		r, err := p.Start(o.Tools)
		if err != nil {
			return nil, err
		}
		running[i] = r
	}
	var all sync.WaitGroup
	for i, r := range running {
		all.Go(func() { results[i], errs[i] = o.path(r, fault) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", some[i].Name, fault, err)
		}
		r := results[i]
		o.Note("%s: %s, %s: %d of %d lost, %d late, out for %.1f s", r.Fault, r.Server, r.Peer, r.Lost, r.Requests, r.Late, r.Outage)
	}
	return results, nil
}

func (o Options) path(r *peers.Running, fault subject.Fault) (Result, error) {
	watch := o.Watch
	if fault == subject.Wedge {
		watch = o.Wedge
	}
	t := traffic.Start(r.Addr(), rate, timeout)
	time.Sleep(calm)
	if err := r.Set(fault); err != nil {
		return Result{}, err
	}
	began := time.Now()
	n := 1
	if fault == subject.Slow {
		n = reloads
	}
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for range n {
			if err := r.Reload(); err != nil && fault == subject.Slow {
				done <- err
				return
			}
			time.Sleep(pause)
			if time.Since(began) > watch {
				return
			}
		}
	}()
	time.Sleep(watch)
	ended := time.Now()
	records := t.Stop()
	err := <-done // it may still be at a stop or a start, which are bounded
	result := judge(records, began, ended)
	result.Peer, result.Server, result.Holdfast, result.Fault = r.Name, r.Server, r.Holdfast, fault
	return result, err
}

// judge adds up what was due from the reload on.
func judge(records []traffic.Record, from, to time.Time) (result Result) {
	type tally struct{ all, out int }
	slices := make([]tally, max(1, int(to.Sub(from)/slice)))
	for _, r := range records {
		i := int(r.Due.Sub(from) / slice)
		if r.Due.Before(from) || i >= len(slices) {
			continue
		}
		result.Requests++
		slices[i].all++
		switch {
		case r.Lost():
			result.Lost++
			slices[i].out++
		case r.Latency() > late:
			result.Late++
			slices[i].out++
		}
	}
	out := 0
	for _, s := range slices {
		result.Lasting = 2*s.out > s.all || s.all == 0 && result.Lasting
		if result.Lasting {
			out++
		}
	}
	result.Outage = float64(out) * slice.Seconds()
	result.Watched = to.Sub(from).Seconds()
	return result
}
