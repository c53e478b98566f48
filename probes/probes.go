// Package probes answers from one snapshot, at once, and decides nothing: no request here can hold up, start or change
// a handoff, and no answer is kinder than the truth. /livez and /readyz speak as kube-apiserver does, /statusz and
// /metrics show everything there is.
//
// A readiness check may be excluded by whoever asks (`?exclude=handoff`); then it no longer decides the status code,
// but `?verbose`, /statusz and the metrics go on telling whether it holds.
package probes

import (
	"fmt"
	"net/http"
	"time"

	"holdfast/handoff/status"
)

// Source is what is probed. Neither method may block; Snapshot is never nil and never changed afterwards.
type Source interface {
	Snapshot() *status.Snapshot
	Queues() []status.Queue
}

// Pulse is what a Source may also have, so that /livez can tell whether its loop still turns. It asks the loop for a
// sign of life without waiting for it, and says for how long the oldest unanswered ask has been waiting (0 when the
// last one was answered). The probes themselves are the clock then: nothing ticks between them, and a loop that hangs
// is found by the first probe that comes LoopPatience after another one.
type Pulse interface {
	Pulse() time.Duration
}

// Counter is what a Source may also have: how many connections each draining generation still has.
type Counter interface {
	Connections() []status.Connections
}

// LoopPatience is how long a sign of life from the loop may take before /livez fails.
const LoopPatience = 10 * time.Second

// Handler serves every endpoint of the probe server. The version is holdfast's own.
func Handler(src Source, version string) http.Handler {
	mux := http.NewServeMux()
	for _, e := range []endpoint{livez(src), {"healthz", livez(src).checks}, readyz(src)} {
		mux.HandleFunc("GET /"+e.name, e.all)
		mux.HandleFunc("GET /"+e.name+"/{check}", e.one)
	}
	mux.Handle("GET /statusz", statusz(src))
	mux.Handle("GET /statusz/events", newEvents(src))
	mux.Handle("GET /metrics", metrics(src, version))
	health{src, make(chan struct{}, maxWatches)}.register(mux)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if preferred(r.Header.Get("Accept")) == "html" {
			statusPage(w, r, src)
			return
		}
		text(w, http.StatusOK, fmt.Sprintf("holdfast %s\n\n%s", version, index))
	})
	return unstored(mux)
}

func livez(src Source) endpoint {
	return endpoint{"livez", func() []check { return liveChecks(src) }}
}

func readyz(src Source) endpoint {
	return endpoint{"readyz", func() []check { return readyChecks(src.Snapshot()) }}
}

const index = `/livez      is holdfast itself alive
/readyz     may traffic come: live, handoff, shutdown
/statusz    everything: a page for a browser, JSON for a program, ?format=text for a terminal
/metrics    for Prometheus
and the gRPC health protocol (grpc.health.v1, without TLS) for the services ready, live and "".

/livez and /readyz take ?verbose, ?exclude=CHECK (repeatable) and a single check as /readyz/CHECK.
`

// unstored marks every answer, errors too, as good for this instant and of no other type than it says.
func unstored(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.ServeHTTP(w, r)
	})
}

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprint(w, body)
}
