package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// Handler is what can be asked for on the control socket.
type Handler struct {
	// Probes answers everything but the reload, as on the probe address.
	Probes http.Handler
	// Reload asks for a handoff. With wait it returns when the handoff that it asked for has ended, else at once. The
	// context ends with the client's patience; the handoff goes on.
	Reload func(ctx context.Context, wait bool) (Result, error)
}

// Result is the answer to a reload.
type Result struct {
	// Completed says that the handoff has ended and the new generation is live; false without wait.
	Completed bool `json:"completed"`
	// Generation is the live one when the answer was given; 0 = none.
	Generation int `json:"generation"`
	// Reason says in one line why the handoff did not complete.
	Reason string `json:"reason,omitempty"`
	// Seconds is the time from the trigger to the outcome; 0 without wait.
	Seconds float64 `json:"seconds,omitempty"`
}

// limits are for the peers that were let in: they are trusted, but may hang.
type limits struct{ read, write, idle, shutdown time.Duration }

func defaultLimits() limits {
	return limits{read: 5 * time.Second, write: 10 * time.Second, idle: 5 * time.Second, shutdown: time.Second}
}

// Serve answers on l until ctx ends, then lets the requests under way finish for a second, cuts off those that still
// wait and returns nil. It closes l.
func Serve(ctx context.Context, l net.Listener, h Handler) error {
	return serve(ctx, l, h, defaultLimits())
}

func serve(ctx context.Context, l net.Listener, h Handler, lim limits) error {
	srv := &http.Server{
		Handler:           h.mux(),
		ReadHeaderTimeout: lim.read,
		ReadTimeout:       lim.read,
		WriteTimeout:      lim.write,
		IdleTimeout:       lim.idle,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // the client is told, and is the only one to care
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		shut(srv, lim.shutdown)
	})
	err := srv.Serve(l)
	if stop() {
		return fmt.Errorf("serve control socket: %w", err)
	}
	<-ended
	return nil
}

func shut(srv *http.Server, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		srv.Close()
	}
}

func (h Handler) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/reload", h.reload)
	mux.Handle("/", h.Probes)
	return mux
}

func (h Handler) reload(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "a reload is asked for with POST", http.StatusMethodNotAllowed)
		return
	}
	wait := r.URL.Query().Get("wait") == "true"
	if wait {
		// Of the time limits this one is left at this point; net/http itself has lifted the one for reading.
		http.NewResponseController(w).SetWriteDeadline(time.Time{})
	}
	result, err := h.Reload(r.Context(), wait)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(result)
}
