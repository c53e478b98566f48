package e2e

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// grpcClient builds e2e/grpc.
func grpcClient(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "grpc")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = filepath.Join(filepath.Dir(harness.Servers(t)), "grpc")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", cmd.Dir, err, out)
	}
	return bin
}

// watchHealth starts a client that watches a service. The returned function waits for its next line.
func watchHealth(t *testing.T, client, addr, service string) (next func() string) {
	t.Helper()
	cmd := exec.Command(client, addr, "watch", service)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	done := make(chan struct{})
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		cmd.Process.Kill()
		cmd.Wait()
	})
	return func() string {
		t.Helper()
		select {
		case line := <-lines:
			return line
		case <-time.After(within):
			t.Fatalf("who watches %q hears nothing", service)
			return ""
		}
	}
}

// TestGRPC asks as a kubelet's grpc probe does, on the same port as all else, through a start, a handoff and the end.
func TestGRPC(t *testing.T) {
	t.Parallel()
	client := grpcClient(t)
	healthy := newGate(t)
	r := hold(t, "*:healthy-when="+string(healthy), "--ready", "http:/healthz", "--shutdown-delay", "1h")
	r.WaitStatus("the first generation runs", within, func(s *status.Snapshot) bool { return len(s.Generations) == 1 })
	check := func(want string, what ...string) {
		t.Helper()
		out, _ := exec.Command(client, append([]string{r.ProbeAddr()}, what...)...).CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%q: %s, want %s", what, got, want)
		}
	}
	ready, live := watchHealth(t, client, r.ProbeAddr(), "ready"), watchHealth(t, client, r.ProbeAddr(), "live")
	excluding, other := watchHealth(t, client, r.ProbeAddr(), "ready?exclude=handoff"), watchHealth(t, client, r.ProbeAddr(), "nonsense")
	expect := func(what string, next func() string, want string) {
		t.Helper()
		if got := next(); got != want {
			t.Errorf("who watches %s is told %s, want %s", what, got, want)
		}
	}
	expect("ready at the start", ready, "NOT_SERVING")
	expect("ready but for handoffs at the start", excluding, "NOT_SERVING")
	expect("live", live, "SERVING")
	expect("nonsense", other, "SERVICE_UNKNOWN")
	check("NOT_SERVING", "check", "ready")
	check("NOT_SERVING", "check", "")
	check("SERVING", "check", "live")

	healthy.open(t)
	expect("ready when it is", ready, "SERVING")
	expect("ready but for handoffs when it is", excluding, "SERVING")
	check("SERVING", "check", "ready")
	check("SERVING", "check", "")
	check("error: NotFound: no such service: want ready or live, or nothing for ready", "check", "nonsense")
	check("error: Unimplemented: want Check or Watch", "list")

	healthy.close(t)
	r.Signal(syscall.SIGHUP)
	expect("ready during a handoff", ready, "NOT_SERVING")
	check("SERVING", "check", "ready?exclude=handoff")
	healthy.open(t)
	expect("ready after the handoff", ready, "SERVING")
	r.WaitLive(2, within)

	r.Signal(syscall.SIGTERM)
	expect("ready at the end", ready, "NOT_SERVING")
	expect("ready but for handoffs at the end", excluding, "NOT_SERVING")
	check("NOT_SERVING", "check", "")
	check("SERVING", "check", "live")

	resp, err := http.Post("http://"+r.ProbeAddr()+"/grpc.health.v1.Health/Check", "application/grpc", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("over HTTP/1.1: %s", resp.Status)
	}
}
