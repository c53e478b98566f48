package probes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"holdfast/handoff/status"
)

// Watching costs something only while somebody watches, and never the loop: a watcher waits for the next snapshot, reads
// it as any request does, and is cut off if it does not take what it is sent.
const (
	maxWatchers = 8
	// eventPause is between two events at least: what happens in it is told in one.
	eventPause = 100 * time.Millisecond
	// eventEvery is how often queues and connections, which no snapshot tells of, are read.
	eventEvery   = time.Second
	eventTimeout = 5 * time.Second
)

// events streams what /statusz says, as server-sent events: ?format=json, an event when anything has changed, or html, the
// page's main part, each second, since it is drawn for the instant.
type events struct {
	src   Source
	slots chan struct{}
}

func newEvents(src Source) *events { return &events{src, make(chan struct{}, maxWatchers)} }

func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := r.URL.Query().Get("format")
	switch format {
	case "", "json", "html":
	default:
		text(w, http.StatusBadRequest, fmt.Sprintf("no format %q here: /statusz/events has json, html\n", format))
		return
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		w.Header().Set("Retry-After", "10")
		text(w, http.StatusServiceUnavailable, fmt.Sprintf("%d watch already, and that is the limit: use /statusz\n", maxWatchers))
		return
	}
	s := stream{w: w, control: http.NewResponseController(w)}
	// The server's limits are for requests that end.
	s.control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if format == "html" {
		span := spanOf(r)
		e.watch(r.Context(), s.page(span))
		return
	}
	e.watch(r.Context(), s.document())
}

// watch has send send the present state now, and anew after each change, until ctx ends or send fails.
func (e *events) watch(ctx context.Context, send func(status.Document) error) {
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	for {
		var next <-chan struct{}
		if p, ok := e.src.(Next); ok {
			next = p.Next()
		}
		if send(documentOf(e.src)) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-tick.C:
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(eventPause):
		}
	}
}

// stream is one watcher.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// send sends one event, whose data may have no line breaks.
func (s stream) send(data []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(eventTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.w, "data: %s\n\n", data); err != nil {
		return err
	}
	return s.control.Flush()
}

// document sends what has changed; a comment in between shows a watcher that has gone.
func (s stream) document() func(status.Document) error {
	var last status.Document
	quiet := 0
	return func(d status.Document) error {
		if last.Snapshot == d.Snapshot && reflect.DeepEqual(last, d) {
			if quiet++; quiet%15 != 0 {
				return nil
			}
			if err := s.control.SetWriteDeadline(time.Now().Add(eventTimeout)); err != nil {
				return err
			}
			if _, err := fmt.Fprint(s.w, ": nothing new\n\n"); err != nil {
				return err
			}
			return s.control.Flush()
		}
		last, quiet = d, 0
		body, err := json.Marshal(d)
		if err != nil {
			return err
		}
		return s.send(body)
	}
}

func (s stream) page(span time.Duration) func(status.Document) error {
	return func(d status.Document) error {
		var b bytes.Buffer
		if err := writeMain(&b, newView(d, time.Now()), span); err != nil {
			return err
		}
		return s.send(bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte(" ")))
	}
}
