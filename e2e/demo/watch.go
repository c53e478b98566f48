package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// watch asks holdfast for its status all the time and says what has changed.
type watch struct {
	url   string
	child *child
	show  *show
	done  chan struct{}

	mu      sync.Mutex
	now     *status.Snapshot
	changed chan struct{} // closed and replaced with each answer
	turned  map[int]load.Cutover
}

const (
	watchEvery = 15 * time.Millisecond
	// slack widens each cutover: its instant is noted by another process right after it.
	slack = 20 * time.Millisecond
)

func startWatch(ctx context.Context, probes string, c *child, s *show) *watch {
	w := &watch{
		url: "http://" + probes + "/statusz", child: c, show: s, done: make(chan struct{}), now: &status.Snapshot{},
		changed: make(chan struct{}), turned: map[int]load.Cutover{},
	}
	go w.run(ctx)
	return w
}

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	for {
		if s, err := w.ask(ctx); err == nil {
			w.take(s)
		} // else it does not listen yet, or any more
		select {
		case <-ctx.Done():
			return
		case <-w.child.done:
			return
		case <-time.After(watchEvery):
		}
	}
}

func (w *watch) ask(ctx context.Context) (*status.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	var s status.Snapshot
	return &s, json.NewDecoder(resp.Body).Decode(&s)
}

// take notes what s says and shows what is new in it.
func (w *watch) take(s *status.Snapshot) {
	w.mu.Lock()
	old := w.now
	w.now = s
	for _, h := range append(s.Recent, inFlight(s)...) {
		if !h.CutoverAt.IsZero() {
			took := time.Duration(h.Seconds[status.PhaseCutover] * float64(time.Second))
			w.turned[h.To] = load.Cutover{Generation: h.To, Before: h.CutoverAt.Add(-took - slack), After: h.CutoverAt.Add(slack)}
		}
	}
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	w.show.news(old, s)
}

func inFlight(s *status.Snapshot) []status.Handoff {
	if s.Handoff == nil {
		return nil
	}
	return []status.Handoff{*s.Handoff}
}

// until waits for a status in which ok holds.
func (w *watch) until(ctx context.Context, what string, ok func(*status.Snapshot) bool) (*status.Snapshot, error) {
	timeout := time.After(patience)
	for {
		w.mu.Lock()
		s, changed := w.now, w.changed
		w.mu.Unlock()
		if ok(s) {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.child.done:
			return nil, fmt.Errorf("holdfast has ended before %s (%v)", what, w.child.err)
		case <-timeout:
			return nil, fmt.Errorf("not within %v: %s", patience, what)
		}
	}
}

func (w *watch) last() *status.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// wait waits for the end of the watch and returns the last status.
func (w *watch) wait() *status.Snapshot {
	<-w.done
	return w.last()
}

func (w *watch) cutovers() []load.Cutover {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []load.Cutover
	for _, c := range w.turned {
		all = append(all, c)
	}
	return all
}

// handoffs counts those that ended, whatever triggered them.
func handoffs(s *status.Snapshot) (completed, failed uint64) {
	for key, n := range s.Counters.Handoffs {
		switch key.Result {
		case status.Completed:
			completed += n
		default:
			failed += n
		}
	}
	return completed, failed
}
