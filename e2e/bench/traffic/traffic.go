// Package traffic puts an open-loop load on a server and keeps what became of every request. A latency counts from when the
// request was due, so that a server that stands still cannot hide the requests that it holds up.
package traffic

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"holdfast/e2e/load"
)

// A Record is one request.
type Record struct {
	Due      time.Time
	Answered time.Time // or had failed
	Outcome  load.Outcome
	Repeated bool // its kept connection was closed before a byte of an answer, and it was repeated
	PID      int  // of who answered
}

// Latency counts from when it was due.
func (r Record) Latency() time.Duration { return r.Answered.Sub(r.Due) }

// Lost says whether it got no right answer.
func (r Record) Lost() bool { return r.Outcome != load.OK }

// Traffic is a load that runs.
type Traffic struct {
	load *load.Load

	mu      sync.Mutex
	records []Record
	pids    map[int]time.Time // who has answered, and when last
}

// workers is how many requests of each kind, on new connections and on kept ones, can be under way at once.
const workers = 96

// Start puts rate requests a second on addr, half of them on connections of their own. One that is not answered within
// timeout has failed.
func Start(addr string, rate float64, timeout time.Duration) *Traffic {
	t := &Traffic{pids: map[int]time.Time{}}
	t.load = load.New(load.Options{
		Address: addr, NewWorkers: workers, KeepAliveWorkers: workers, Rate: rate, Timeout: timeout,
		Generation: pid, Observe: t.observe, MaxRecords: 1, MaxFailures: 1,
	})
	t.load.Start(context.Background())
	return t
}

func (t *Traffic) observe(r load.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = append(t.records, Record{Due: r.Intended, Answered: r.Answered, Outcome: r.Outcome, Repeated: r.Retried, PID: r.Generation})
	if r.Outcome == load.OK {
		t.pids[r.Generation] = r.Answered
	}
}

// Answerers returns who has answered since.
func (t *Traffic) Answerers(since time.Time) (pids []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid, at := range t.pids {
		if at.After(since) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Stop ends the load, waits for what is under way and returns all that was.
func (t *Traffic) Stop() []Record {
	t.load.Stop()
	return t.records
}

// pid reads who has answered.
func pid(a load.Answer) (int, error) {
	_, rest, ok := bytes.Cut(a.Body, []byte("pid="))
	if !ok {
		return 0, fmt.Errorf("no pid in %.60q", a.Body)
	}
	return strconv.Atoi(string(bytes.TrimSpace(rest)))
}

// Capacity returns how many requests a second a server answers at most: as many at once as there are processors to have,
// each as soon as the one before it has its answer.
func Capacity(addr string, d time.Duration) (float64, error) {
	l := load.New(load.Options{Address: addr, NewWorkers: 8, KeepAliveWorkers: 8, Think: -1, Generation: pid, MaxRecords: 1, MaxFailures: 1, Duration: d})
	l.Start(context.Background())
	time.Sleep(d)
	r := l.Stop()
	if r.Lost() > 0 {
		return 0, fmt.Errorf("measure the capacity of %s: %s", addr, r)
	}
	return float64(r.Requests) / r.Elapsed.Seconds(), nil
}
