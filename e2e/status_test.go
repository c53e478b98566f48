package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"holdfast/handoff/status"
)

// TestStatusTable is what a person sees who is called at night because an old generation does not go: what runs, since
// when and why, what each holds, and what the old one still waits for.
func TestStatusTable(t *testing.T) {
	t.Parallel()
	r := hold(t, "*:ok", "--drain-timeout", "1h")
	r.WaitLive(1, within)
	client, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	never := filepath.Join(t.TempDir(), "never")
	if _, err := fmt.Fprintf(client, "GET /wait?for=%s HTTP/1.1\r\nHost: x\r\n\r\n", never); err != nil {
		t.Fatal(err)
	}
	r.Eventually("the request that takes for ever is accepted", within, func() bool { return accepted(t, r) >= 1 })
	r.Signal(syscall.SIGHUP)
	r.WaitLive(2, within)
	r.WaitStatus("the old one has its stop signal", within, func(s *status.Snapshot) bool {
		return len(s.Generations) > 0 && !s.Generations[0].StoppedAt.IsZero()
	})
	var text string
	want := []*regexp.Regexp{
		regexp.MustCompile(`(?m)^ready: yes$`),
		regexp.MustCompile(`(?m)^live: generation 2 since \S+ \(\d+s\), started by signal`),
		regexp.MustCompile(`(?m)^1 +draining +\S+ +\d+ +start +- +1 connection; stop sent \d+s ago`),
		regexp.MustCompile(`(?m)^2 +live +\S+ +\d+ +signal `),
		regexp.MustCompile(`(?m)^127\.0\.0\.1:\d+ +- +reuseport +2 +1 2 +\d+s ago`),
		regexp.MustCompile(`(?m)^last: handoff 1 -> 2 by signal completed`),
	}
	end := time.Now().Add(within)
	for missing := want; len(missing) > 0; {
		_, text = r.Command("status")
		for len(missing) > 0 && missing[0].MatchString(text) {
			missing = missing[1:]
		}
		if time.Now().After(end) {
			t.Fatalf("holdfast status does not say %s:\n%s", missing[0], text)
		}
	}
	d := r.Document()
	if len(d.Connections) != 1 || d.Connections[0] != (status.Connections{Generation: 1, Established: 1}) {
		t.Errorf("connections of the old one: %+v", d.Connections)
	}
	if g := d.Ports[0].Generations; len(g) != 2 || g[0] != 1 || g[1] != 2 {
		t.Errorf("the port is held by %v, want 1 and 2", g)
	}
	if m := r.Metrics(); !regexp.MustCompile(`(?m)^holdfast_draining_connections 1$`).MatchString(m) {
		t.Errorf("the metrics do not count the connection:\n%s", m)
	}
}
