package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// poll is how often a status is asked for while something is waited for.
const poll = 5 * time.Millisecond

// answerWithin bounds the wait for one answer. Holdfast answers at once, on a machine that has the time.
const answerWithin = time.Minute

// get asks the probe server on a connection of its own, so that none stays open to be counted or to be lost.
func (h *Holdfast) get(path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.probes+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp.StatusCode, string(body), err
}

func (h *Holdfast) must(path string) (int, string) {
	h.t.Helper()
	code, body, err := h.get(path)
	if err != nil {
		h.t.Fatalf("GET %s: %v", path, err)
	}
	return code, body
}

// Ready is what /readyz?verbose answers.
func (h *Holdfast) Ready() (code int, body string) { h.t.Helper(); return h.must("/readyz?verbose") }

// Live is what /livez?verbose answers.
func (h *Holdfast) Live() (code int, body string) { h.t.Helper(); return h.must("/livez?verbose") }

// Probe is what any path of the probe server answers.
func (h *Holdfast) Probe(path string) (code int, body string) { h.t.Helper(); return h.must(path) }

// Metrics is what /metrics answers.
func (h *Holdfast) Metrics() string {
	h.t.Helper()
	code, body := h.must("/metrics")
	if code != http.StatusOK {
		h.t.Fatalf("GET /metrics: %d: %s", code, body)
	}
	return body
}

// Document is the whole of /statusz: the snapshot and the queues.
func (h *Holdfast) Document() *status.Document {
	h.t.Helper()
	d, err := h.TryDocument()
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

// TryDocument is Document for other goroutines than the test's, and for a holdfast that may not listen yet.
func (h *Holdfast) TryDocument() (*status.Document, error) {
	code, body, err := h.get("/statusz?format=json")
	if err != nil {
		return nil, err
	}
	if code != http.StatusOK {
		return nil, fmt.Errorf("GET /statusz: %d: %s", code, body)
	}
	var d status.Document
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		return nil, fmt.Errorf("read /statusz: %w: %.300s", err, body)
	}
	if d.Snapshot == nil {
		return nil, fmt.Errorf("/statusz holds no snapshot: %.300s", body)
	}
	return &d, nil
}

// Status is the snapshot of /statusz.
func (h *Holdfast) Status() *status.Snapshot {
	h.t.Helper()
	return h.Document().Snapshot
}

// WaitStatus asks for the status until ok holds, and returns that status. What says what is waited for.
func (h *Holdfast) WaitStatus(what string, within time.Duration, ok func(*status.Snapshot) bool) *status.Snapshot {
	h.t.Helper()
	var last *status.Document
	var err error
	for end := time.Now().Add(within); ; time.Sleep(poll) {
		var d *status.Document
		if d, err = h.TryDocument(); err == nil {
			if last = d; ok(d.Snapshot) {
				return d.Snapshot
			}
		}
		if h.Exited() {
			h.t.Fatalf("holdfast has ended before: %s", what)
		}
		if time.Now().After(end) {
			text, _ := json.MarshalIndent(last, "", "  ")
			h.t.Fatalf("not within %v: %s (last error: %v); the last status:\n%s", within, what, err, text)
		}
	}
}

// WaitLive waits until generation is live and proven, and nothing is in flight.
func (h *Holdfast) WaitLive(generation int, within time.Duration) *status.Snapshot {
	h.t.Helper()
	return h.WaitStatus(fmt.Sprintf("generation %d is live, proven and alone in it", generation), within, func(s *status.Snapshot) bool {
		return s.Live == generation && s.Ready.Live == "" && s.Handoff == nil && !s.Pending
	})
}

// WaitHandoffs waits until so many handoffs have ended since holdfast's start, however they did, and none is in flight.
func (h *Holdfast) WaitHandoffs(ended uint64, within time.Duration) *status.Snapshot {
	h.t.Helper()
	return h.WaitStatus(fmt.Sprintf("%d handoffs have ended", ended), within, func(s *status.Snapshot) bool {
		return Handoffs(s, "") >= ended && s.Handoff == nil && !s.Pending
	})
}

// WaitGone waits until of all generations only the live one is left.
func (h *Holdfast) WaitGone(within time.Duration) *status.Snapshot {
	h.t.Helper()
	return h.WaitStatus("only the live generation is left", within, func(s *status.Snapshot) bool {
		for _, g := range s.Generations {
			if g.State != status.Gone && g.Number != s.Live {
				return false
			}
		}
		return s.Live != 0 && s.Handoff == nil
	})
}

// Handoffs counts the ended handoffs with that result, of every trigger; result "" counts all.
func Handoffs(s *status.Snapshot, result string) uint64 {
	var n uint64
	for key, count := range s.Counters.Handoffs {
		if result == "" || key.Result == result {
			n += count
		}
	}
	return n
}

// Cutovers lists the cutovers of the ended handoffs in s for load's Verify, each widened by slack on both sides: the
// clock is one and the same, but the instants are noted shortly before or after what they are about. s.Recent is
// bounded, so a long test must collect them on its way. Handoffs that turned back are not in it: their second instant
// is not known.
func Cutovers(s *status.Snapshot, slack time.Duration) []load.Cutover {
	var all []load.Cutover
	for _, h := range s.Recent {
		if h.CutoverAt.IsZero() || h.TurnedBack {
			continue
		}
		took := time.Duration(h.Seconds[status.PhaseCutover] * float64(time.Second))
		all = append(all, load.Cutover{
			Generation: h.To, Before: h.CutoverAt.Add(-took - slack), After: h.CutoverAt.Add(took + slack),
		})
	}
	return all
}
