package probes_test

import (
	"fmt"
	"net/http/httptest"

	"holdfast/handoff/status"
	"holdfast/probes"
)

// source is all that the probes need to know.
type source struct{ snapshot *status.Snapshot }

func (s source) Snapshot() *status.Snapshot { return s.snapshot }
func (s source) Queues() []status.Queue     { return nil }

// A handoff is in flight, and a fleet's readiness probe leaves that out.
func ExampleHandler() {
	s := source{&status.Snapshot{Live: 1, Ready: status.Readiness{Handoff: "generation 2 is proving"}}}
	h := probes.Handler(s, "v1.0.0")
	for _, path := range []string{"/readyz", "/readyz?exclude=handoff"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, w.Code)
		fmt.Println(w.Body)
	}
	// Output:
	// /readyz 503
	// [+]live ok
	// [-]handoff failed: generation 2 is proving
	// [+]shutdown ok
	// readyz check failed
	//
	// /readyz?exclude=handoff 200
	// ok
}
