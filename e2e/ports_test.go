package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// generationsOn runs a server with other arguments in each generation; one later than the last listed gets the last's.
func generationsOn(server string, arguments ...string) []string {
	const script = `n=$HOLDFAST_GENERATION; [ $n -le $# ] || n=$#; eval "a=\${$n}"; exec $0 $a`
	return append([]string{"/bin/sh", "-c", script, server}, arguments...)
}

func refusedAt(address string) bool {
	conn, err := net.DialTimeout("tcp", address, within)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// heldPort is what the status says of a port; nil if it is not held.
func heldPort(s *status.Snapshot, address string) *status.Port {
	for i := range s.Ports {
		if s.Ports[i].Port == address {
			return &s.Ports[i]
		}
	}
	return nil
}

// TestPortComesAndGoes: a port that only the new generation opens becomes held, and is handed over from then on; one that
// it has dropped is the old generation's until that has drained, and is refused then.
func TestPortComesAndGoes(t *testing.T) {
	needPID1(t)
	t.Parallel()
	both, dropped, added := at(t), at(t), at(t)
	end := newGate(t)
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "50ms", "--ports-may-change", "--drain-timeout", "10m"},
		Env:     []string{"NAUGHTY=1:linger-until=" + string(end) + " *:ok"},
		Command: generationsOn(harness.Naughty(t), both+" "+dropped, both+" "+added),
	})
	h.WaitLive(1, within)
	h.WaitStatus("both ports are held", within, func(s *status.Snapshot) bool { return len(s.Ports) == 2 })
	l := startLoad(t, both)
	flow(t, l, 50)
	h.Signal(syscall.SIGHUP)
	s := h.WaitLive(2, within)
	if p := heldPort(s, dropped); p == nil || p.Live != 1 {
		t.Errorf("while the old generation drains, held: %+v", s.Ports)
	}
	if g, err := askedAt(dropped); err != nil || g != 1 {
		t.Errorf("while it drains the old generation's own port is answered by %d, %v", g, err)
	}
	end.open(t)
	s = h.WaitGone(within)
	if heldPort(s, dropped) != nil || heldPort(s, added) == nil {
		t.Errorf("after the drain, held: %+v", s.Ports)
	}
	if !refusedAt(dropped) {
		t.Error("the dropped port is not refused")
	}
	more := startLoad(t, added)
	flow(t, more, 50)
	for n := 3; n <= 5; n++ {
		h.Signal(syscall.SIGHUP)
		h.WaitLive(n, within)
		flow(t, more, 30)
	}
	h.WaitGone(within)
	nothingLost(t, l, nil)
	nothingLost(t, more, nil)
}

// TestDroppedPortIsRefusedInTheDrain: the old generation closes its listeners at its stop signal and goes on with what it
// has begun. Clients of a port that only it had are refused, as they would be without holdfast, and do not hang until
// it has ended.
func TestDroppedPortIsRefusedInTheDrain(t *testing.T) {
	needPID1(t)
	t.Parallel()
	both, dropped := at(t), at(t)
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "50ms", "--ports-may-change", "--drain-timeout", "1h"},
		Command: generationsOn(harness.Naughty(t), both+" "+dropped, both),
	})
	h.WaitLive(1, within)
	h.WaitStatus("both ports are held", within, func(s *status.Snapshot) bool { return len(s.Ports) == 2 })
	never := newGate(t)
	slow := load.New(load.Options{Address: both, Path: "/wait?for=" + string(never), NewWorkers: 1, MaxRequests: 1, Timeout: 4 * within})
	slow.Start(t.Context())
	h.Eventually("the slow request has arrived", within, func() bool { return accepted(t, run{address: both}) >= 1 })
	h.Signal(syscall.SIGHUP)
	h.WaitLive(2, within)
	h.Eventually("clients of the dropped port are refused", within, func() bool { return refusedAt(dropped) })
	// The socket goes first, and the status tells of it after.
	s := h.WaitStatus("the dropped port is held no more", within, func(s *status.Snapshot) bool { return heldPort(s, dropped) == nil })
	if len(s.Generations) < 2 || s.Generations[0].State != status.Draining {
		t.Errorf("held: %+v, generations: %+v", s.Ports, s.Generations)
	}
}

// TestOverlappingAddress: the new generation listens on an address that covers the old one's. For the kernel that is
// another group, with which no switch helps; nothing is lost all the same, and the status says how it is.
func TestOverlappingAddress(t *testing.T) {
	needPID1(t)
	for _, c := range []struct{ name, old, next string }{
		{"127.0.0.1 to 0.0.0.0", "127.0.0.1:%d", "0.0.0.0:%d"},
		{"0.0.0.0 to both", "0.0.0.0:%d", "[::]:%d"},
		{"127.0.0.1 to both", "127.0.0.1:%d", "[::]:%d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			number := freeport.Choose(t)
			client := fmt.Sprintf("127.0.0.1:%d", number)
			old, next := fmt.Sprintf(c.old, number), fmt.Sprintf(c.next, number)
			server := "/usr/bin/python3 " + harness.Servers(t) + "/python/server.py" // Go takes both families for 0.0.0.0
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: []string{"--settle", "200ms", "--drain-timeout", "10m"},
				Command: generationsOn(server, old, next),
			})
			next = strings.TrimPrefix(next, "[::]")
			h.WaitLive(1, within)
			answer := newGate(t)
			slow := load.New(load.Options{Address: client, Path: "/wait?for=" + string(answer), NewWorkers: 2, MaxRequests: 2, Timeout: 4 * within}) // what is drained
			slow.Start(t.Context())
			h.Eventually("a slow request has arrived", within, func() bool { return accepted(t, run{address: client}) >= 1 })
			l := startLoad(t, client)
			flow(t, l, 50)
			h.Signal(syscall.SIGHUP)
			s := h.WaitLive(2, within)
			cutovers := harness.Cutovers(s, 5*time.Millisecond)
			if p := heldPort(s, old); p == nil || len(p.Overlaps) != 1 || p.Overlaps[0] != next {
				t.Errorf("the status says of the old port: %+v", p)
			}
			h.WaitStatus("the status says it in words", within, func(s *status.Snapshot) bool {
				return strings.Contains(strings.Join(s.Warnings, "\n"), old+" of generation 1 has been given up to "+next)
			})
			if _, text := h.Probe("/statusz"); !strings.Contains(text, "the cutover here is the retirement of the old socket") {
				t.Errorf("the text says nothing of it:\n%s", text)
			}
			flow(t, l, 50)
			answer.open(t)
			s = h.WaitGone(within)
			if heldPort(s, old) != nil || heldPort(s, next) == nil || len(s.Warnings) != 0 {
				t.Errorf("after the drain, held: %+v, warnings %q", s.Ports, s.Warnings)
			}
			h.Signal(syscall.SIGHUP)
			s = h.WaitLive(3, within)
			cutovers = append(cutovers, harness.Cutovers(s, 5*time.Millisecond)[1:]...)
			flow(t, l, 50)
			nothingLost(t, l, cutovers)
			if r := slow.Stop(); r.Lost() != 0 || r.ByGeneration[1] == 0 {
				t.Errorf("the slow requests: %v", r)
			}
		})
	}
}

// TestOverlapThatDies: the old generation dies at once on its stop signal, with clients in its queue, and the new one has
// moved to an address that covers its own: what was queued is relayed.
func TestOverlapThatDies(t *testing.T) {
	needPID1(t)
	t.Parallel()
	number := freeport.Choose(t)
	old, next := fmt.Sprintf("127.0.0.1:%d", number), fmt.Sprintf(":%d", number)
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "1ms", "--ready-timeout", "10m"},
		Env: []string{"NAUGHTY=1:abrupt *:ok"}, Command: generationsOn(harness.Naughty(t), old, next),
	})
	h.WaitLive(1, within)
	l := load.New(load.Options{Address: old, NewWorkers: 6, Think: -1, MaxFailures: 1_000_000, Timeout: within})
	l.Start(t.Context())
	flow(t, l, 50)
	h.Signal(syscall.SIGHUP)
	s := h.WaitLive(2, within)
	h.WaitGone(within)
	flow(t, l, 100)
	lostAfter(t, l, s.Last.CutoverAt)
}

// at is an address of this test's own.
func at(t *testing.T) string { return "127.0.0.1:" + strconv.Itoa(freeport.Choose(t)) }

// askedAt makes one request and says which generation answered.
func askedAt(address string) (generation int, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: within}
	response, err := client.Get("http://" + address + "/")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return strconv.Atoi(response.Header.Get("X-Generation"))
}
