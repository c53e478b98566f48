package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// request sends one HTTP/1.1 request on a kept connection and returns the first line of the answer.
func request(conn net.Conn, path string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line), err
}

// TestAbruptServers: a server that dies on its stop signal loses nothing that came after the cutover; and with
// --drain-wait-connections nothing at all, since it gets the signal when nobody is connected any more.
func TestAbruptServers(t *testing.T) {
	t.Parallel()
	r := hold(t, "*:abrupt", "--drain-wait-connections", "--drain-timeout", "10m")
	r.WaitLive(1, within)
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := request(conn, "/"); err != nil || line != "HTTP/1.1 200 OK" {
		t.Fatalf("before the handoff: %q, %v", line, err)
	}
	r.Signal(syscall.SIGHUP)
	r.WaitLive(2, within)
	if line, err := request(conn, "/"); err != nil || line != "HTTP/1.1 200 OK" {
		t.Errorf("on the connection that the old generation has: %q, %v", line, err)
	}
	if old := r.Status().Generations[0]; old.State != status.Draining || !old.StoppedAt.IsZero() {
		t.Errorf("while a connection is open the old generation is %+v", old)
	}
	conn.Close()
	r.WaitGone(within)
}

// TestSlowRequests: what the old generation had begun is finished after the cutover, and nobody waits for it: the next
// handoff begins meanwhile.
func TestSlowRequests(t *testing.T) {
	t.Parallel()
	answer := newGate(t)
	r := hold(t, "*:ok", "--settle", "50ms", "--drain-timeout", "10m")
	r.WaitLive(1, within)
	slow := load.New(load.Options{Address: r.address, Path: "/wait?for=" + string(answer), NewWorkers: 4, MaxRequests: 4, Timeout: 4 * within})
	slow.Start(t.Context())
	r.Eventually("the slow requests are accepted", within, func() bool { return accepted(t, r) >= 4 })
	for n := 2; n <= 4; n++ {
		r.Signal(syscall.SIGHUP)
		r.WaitLive(n, within)
	}
	if s := r.Status(); s.Generations[0].Number != 1 || s.Generations[0].State != status.Draining {
		t.Errorf("the first generation has not been waited for: %+v", s.Generations)
	}
	answer.open(t)
	r.WaitGone(within)
	if result := slow.Stop(); result.Lost() != 0 || result.ByGeneration[1] != 4 {
		t.Errorf("%v: %+v", result, result.Failures)
	}
}

// TestMaxDraining: of more old generations than allowed the oldest is killed, and the log says so.
func TestMaxDraining(t *testing.T) {
	t.Parallel()
	r := hold(t, "*:linger=1h", "--settle", "50ms", "--max-draining", "2", "--drain-timeout", "1h")
	for n := 1; n <= 6; n++ {
		r.WaitLive(n, within)
		r.Signal(syscall.SIGHUP)
	}
	r.WaitLive(7, within)
	for n := 1; n <= 4; n++ {
		r.WaitLog(fmt.Sprintf(`killing what is left of a generation" generation=%d reason="more old generations drain than --max-draining 2`, n), within)
	}
	r.WaitStatus("two drain on, and the older ones are gone", within, func(s *status.Snapshot) bool {
		return slices.Equal(numbers(s), []int{5, 6, 7})
	})
}

// numbers are those of the generations that are not gone.
func numbers(s *status.Snapshot) (all []int) {
	for _, g := range s.Generations {
		if g.State != status.Gone {
			all = append(all, g.Number)
		}
	}
	return all
}

// TestSequential: for a server that holds an exclusive lock the old one is stopped first. Clients wait; none is refused.
func TestSequential(t *testing.T) {
	t.Parallel()
	lock := filepath.Join(t.TempDir(), "lock")
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	h := harness.Run(t, harness.Options{
		Flags:   []string{"--listen", address, "--strategy", "sequential"},
		Command: []string{"flock", "--nonblock", "--no-fork", lock, harness.Naughty(t)},
	})
	h.WaitLive(1, within)
	l := startLoad(t, address)
	for n := 2; n <= 6; n++ {
		flow(t, l, 50)
		h.Signal(syscall.SIGHUP)
		h.WaitLive(n, within)
	}
	flow(t, l, 50)
	r := nothingLost(t, l, nil)
	if s := h.WaitGone(within); harness.Handoffs(s, status.Completed) != 5 {
		t.Errorf("handoffs: %v", s.Counters.Handoffs)
	}
	t.Logf("the longest wait: %v", r.Max)
}

// TestLockedOut is the same server with the overlap strategy: the new one does not get the lock, and nothing happens.
func TestLockedOut(t *testing.T) {
	t.Parallel()
	lock := filepath.Join(t.TempDir(), "lock")
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	h := harness.Run(t, harness.Options{
		Flags:   []string{"--listen", address, "--settle", "50ms"},
		Command: []string{"flock", "--nonblock", "--no-fork", lock, harness.Naughty(t)},
	})
	h.WaitLive(1, within)
	h.Signal(syscall.SIGHUP)
	s := h.WaitHandoffs(1, within)
	if s.Live != 1 || s.Last.Result != status.FailedHandoff {
		t.Errorf("generation %d is live: %+v", s.Live, s.Last)
	}
}

// TestDeadStderr: nobody reads the log any more. Holdfast goes on, and the child gets no SIGPIPE for it.
func TestDeadStderr(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close() // every write to the other end fails with EPIPE
	defer write.Close()
	out := filepath.Join(t.TempDir(), "pipes")
	h := harness.Run(t, harness.Options{
		Stderr: write, Flags: []string{"-v", "--ready", "delay:0s", "--settle", "1ms"},
		Command: []string{"sh", "-c", `trap 'echo PIPE >> "$0"' PIPE; while :; do sleep 0.01; done`, out},
	})
	for n := 1; n <= 5; n++ {
		h.WaitLive(n, within)
		h.Signal(syscall.SIGHUP)
	}
	h.WaitLive(6, within)
	if b, err := os.ReadFile(out); err == nil {
		t.Errorf("the child got a SIGPIPE that was not for it:\n%s", b)
	}
}

// TestFullStderr: the log's reader is stuck. Holdfast loses lines, not handoffs.
func TestFullStderr(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe() // nobody reads it
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	h := harness.Run(t, harness.Options{
		Stderr: write, Flags: []string{"-v", "--ready", "delay:0s", "--settle", "1ms"},
		Command: []string{"sh", "-c", "exec sleep 3600 2>/dev/null"},
	})
	h.WaitLive(1, within)
	for n := 2; n <= 40; n++ { // at some 2 kB a handoff this is more than the pipe's 64 KiB
		h.Signal(syscall.SIGHUP)
		h.WaitLive(n, within)
	}
	h.Signal(syscall.SIGTERM)
	if code := h.Wait(within); code != 143 {
		t.Errorf("exit code %d, want 143", code)
	}
}
