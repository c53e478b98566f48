package e2e

import (
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// lostAfter stops l and fails the test for everything lost whose connection was begun after the cutover.
func lostAfter(t *testing.T, l *load.Load, cutover time.Time) {
	t.Helper()
	if cutover.IsZero() {
		t.Fatal("there was no cutover")
	}
	r := l.Stop()
	before := 0
	for _, f := range r.Failures {
		if f.Connect.After(cutover) {
			t.Errorf("lost after the cutover at %v: %+v", cutover, f)
			continue
		}
		before++
	}
	if r.Lost() != uint64(len(r.Failures)) {
		t.Errorf("%d lost, and only %d are known", r.Lost(), len(r.Failures))
	}
	t.Logf("%d requests, %d lost that were begun before the cutover", r.Requests, before)
}

// dying are servers that die at once of SIGTERM, with all that they have accepted.
func dying(t *testing.T, p place) map[string]harness.Options {
	host, port, _ := net.SplitHostPort(p.address())
	return map[string]harness.Options{
		"python -m http.server": {Command: []string{"/usr/bin/python3", "-m", "http.server", "--bind", host, "--directory", p.scratch, port}},
		"threads":               {Command: p.python("abrupt")},
		"go":                    {Command: []string{harness.Naughty(t), p.address()}, Env: []string{"NAUGHTY=*:abrupt"}},
	}
}

// anyGeneration is for servers that do not tell theirs.
func anyGeneration(load.Answer) (int, error) { return 0, nil }

// TestDiesAtOnce: a server that dies at once on SIGTERM loses nothing that arrived after the cutover; and with
// --drain-wait-connections nothing at all, since it gets the signal when its connections have ended.
func TestDiesAtOnce(t *testing.T) {
	needPID1(t)
	for name := range dying(t, newPlace(t)) {
		for _, wait := range []bool{false, true} {
			t.Run(name+"/waits="+strconv.FormatBool(wait), func(t *testing.T) {
				t.Parallel()
				p := newPlace(t)
				o := dying(t, p)[name]
				o.PID1, o.Flags = true, []string{"--takeover", "require", "--settle", "100ms", "--drain-timeout", "2m"}
				if wait {
					o.Flags = append(o.Flags, "--drain-wait-connections")
				}
				dieAtOnce(t, harness.Run(t, o), p, name != "python -m http.server", wait)
			})
		}
	}
}

func dieAtOnce(t *testing.T, h *harness.Holdfast, p place, slowPath, wait bool) {
	h.WaitLive(1, within)
	options := load.Options{Address: p.address(), NewWorkers: 6, Think: -1, Generation: anyGeneration, MaxFailures: 1_000_000, Timeout: within}
	loads := []*load.Load{load.New(options)}
	if slowPath { // these are in the midst of their answer when the signal comes
		options.Path, options.Think = "/slow?ms=500", 0
		loads = append(loads, load.New(options))
	}
	for _, l := range loads {
		l.Start(t.Context())
	}
	for _, l := range loads {
		flow(t, l, 1)
	}
	for n := 2; n <= 4; n++ {
		h.Signal(syscall.SIGHUP)
		s := h.WaitLive(n, within)
		h.WaitGone(within)
		for _, l := range loads {
			flow(t, l, 10)
		}
		if wait {
			continue
		}
		for _, l := range loads {
			lostAfter(t, l, s.Last.CutoverAt)
		}
		return // one is enough: the next one's losses could not be told from this one's
	}
	for _, l := range loads {
		if r := l.Stop(); r.Lost() != 0 {
			t.Errorf("%v", r)
		}
	}
	if got := harness.Handoffs(h.Status(), status.Completed); got != 3 {
		t.Errorf("%d handoffs completed", got)
	}
}

// TestHalfClosed: a client that has sent its last and waits for the answer has a connection, too.
func TestHalfClosed(t *testing.T) {
	needPID1(t)
	t.Parallel()
	p := newPlace(t)
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "1ms", "--drain-timeout", "2m", "--drain-wait-connections"}, Command: p.python("abrupt"),
	})
	h.WaitLive(1, within)
	conn, err := net.Dial("tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /slow?ms=1500 HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	h.Signal(syscall.SIGHUP)
	h.WaitLive(2, within)
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "generation=1 ") {
		t.Errorf("%q, %v", answer, err)
	}
	h.WaitGone(within)
}
