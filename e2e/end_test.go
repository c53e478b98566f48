package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

func sendNotify(t *testing.T, socket, text string) {
	t.Helper()
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// TestExitCodes: the child's own; 128 + N for signal N; 126 and 127 for what can not be executed.
func TestExitCodes(t *testing.T) {
	needPID1(t)
	for _, pid1 := range []bool{true, false} {
		for _, c := range []struct {
			name    string
			command []string
			flags   []string
			code    int
			says    string
		}{
			{name: "success", command: []string{"true"}, code: 0},
			{name: "a code", command: []string{"sh", "-c", "exit 7"}, code: 7},
			{name: "a signal", command: []string{"sh", "-c", "kill -KILL $$"}, code: 137},
			{name: "remapped", command: []string{"sh", "-c", "exit 143"}, flags: []string{"-e", "143"}, code: 0},
			{name: "remapped to", command: []string{"sh", "-c", "exit 3"}, flags: []string{"--remap-exit", "3:9"}, code: 9},
			{name: "not found", command: []string{"not-there"}, code: 127, says: "execute not-there: not found in PATH="},
			{name: "no such path", command: []string{"/not/there"}, code: 127, says: "/not/there: no such file"},
			{name: "a directory", command: []string{"/etc"}, code: 126, says: "it is a directory"},
			{name: "not executable", command: []string{"/etc/passwd"}, code: 126, says: "permission denied"},
			{name: "found again and again", command: []string{"not-there"}, flags: []string{"--restart", "always"}, code: 127},
		} {
			t.Run(fmt.Sprintf("%s/pid1=%v", c.name, pid1), func(t *testing.T) {
				t.Parallel()
				h := harness.Run(t, harness.Options{PID1: pid1, Flags: c.flags, Command: c.command})
				if code := h.Wait(within); code != c.code {
					t.Errorf("exit code %d, want %d", code, c.code)
				}
				if !strings.Contains(h.Log(), c.says) {
					t.Errorf("want %q in\n%s", c.says, h.Log())
				}
			})
		}
	}
}

// TestScriptWithoutFirstLine is executed by /bin/sh, as execvp(3) has it.
func TestScriptWithoutFirstLine(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("exit $1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code := harness.Run(t, harness.Options{Command: []string{script, "5"}}).Wait(within); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
}

// TestTerminate: SIGTERM stops every generation, those that still drain included, and the exit code is the live one's.
func TestTerminate(t *testing.T) {
	needPID1(t)
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	end := newGate(t)
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--listen", address, "--settle", "50ms", "--drain-timeout", "10m"},
		Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=1:linger-until=" + string(end) + ",term-exit=4 2:term-exit=5"},
	})
	h.WaitLive(1, within)
	h.Signal(syscall.SIGHUP)
	h.WaitStatus("generation 1 drains", within, func(s *status.Snapshot) bool {
		return s.Live == 2 && len(s.Generations) == 2 && !s.Generations[0].StoppedAt.IsZero()
	})
	h.Signal(syscall.SIGTERM)
	h.WaitStatus("generation 2 has ended", within, func(s *status.Snapshot) bool { return s.Ready.Live != "" })
	end.open(t) // what still drains has been waited for
	if code := h.Wait(within); code != 5 {
		t.Errorf("exit code %d, want the live generation's 5", code)
	}
}

// TestTerminateFinishes: what a generation has accepted is answered after SIGTERM.
func TestTerminateFinishes(t *testing.T) {
	t.Parallel()
	answer := newGate(t)
	r := hold(t, "*:ok")
	r.WaitLive(1, within)
	l := load.New(load.Options{Address: r.address, Path: "/wait?for=" + string(answer), NewWorkers: 4, MaxRequests: 4, Timeout: 2 * within})
	l.Start(t.Context())
	r.Eventually("four requests are accepted", within, func() bool { return accepted(t, r) == 4 })
	r.Signal(syscall.SIGTERM)
	r.WaitLog("stop signal.*SIGTERM", within)
	answer.open(t)
	r.Wait(within)
	if result := l.Stop(); result.Lost() != 0 || result.Requests != 4 {
		t.Errorf("%v: %+v", result, result.Failures)
	}
}

// accepted counts the connections that r's generations have accepted: established ones that are not queued.
func accepted(t *testing.T, r run) int {
	t.Helper()
	_, port, _ := net.SplitHostPort(r.address)
	var want int
	fmt.Sscan(port, &want)
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", want)) && f[3] == "01" && f[9] != "0" {
			n++
		}
	}
	return n
}

// TestInterrupt goes through to all; a policy to restart does not bring back what was interrupted.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	h := harness.Run(t, harness.Options{
		Flags: []string{"--restart", "always", "--ready", "delay:0s"}, Command: []string{"sleep", "3600"},
	})
	h.WaitLive(1, within)
	h.Signal(syscall.SIGINT)
	if code := h.Wait(within); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}

// TestTerminateHTTPD: a program that is named as apache is and has no handler for apache's stop signal, which is ignored
// by default, stops at SIGTERM.
func TestTerminateHTTPD(t *testing.T) {
	t.Parallel()
	httpd := filepath.Join(t.TempDir(), "httpd")
	if err := os.Symlink("/bin/sleep", httpd); err != nil {
		t.Fatal(err)
	}
	h := harness.Run(t, harness.Options{Flags: []string{"--ready", "delay:0s"}, Command: []string{httpd, "3600"}})
	h.WaitLive(1, within)
	h.Signal(syscall.SIGTERM)
	if code := h.Wait(within); code != 143 {
		t.Errorf("exit code %d, want 143", code)
	}
}

// TestGracePeriod: a child that ignores SIGTERM is killed when the grace period is over, with all that it started.
func TestGracePeriod(t *testing.T) {
	t.Parallel()
	r := hold(t, "*:ignore-term,grandchild", "--grace-period", "300ms")
	r.WaitLive(1, within)
	before := r.Descendants()
	if len(before) != 2 {
		t.Fatalf("processes: %+v", before)
	}
	r.Signal(syscall.SIGTERM)
	if code := r.Wait(within); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	for _, p := range before { // killed, and soon reaped by whoever adopts them
		r.Eventually(fmt.Sprintf("process %d (%s) is gone", p.PID, p.Comm), within, func() bool { return syscall.Kill(p.PID, 0) != nil })
	}
}

// TestSignals: every signal that is not holdfast's own goes to the live generation, and to it only.
func TestSignals(t *testing.T) {
	needPID1(t)
	t.Parallel()
	out := filepath.Join(t.TempDir(), "signals")
	script := `trap 'echo USR1 >> "$0"' USR1; trap 'echo USR2 >> "$0"' USR2; trap 'echo WINCH >> "$0"' WINCH
trap 'echo HUP >> "$0"' HUP; trap 'echo TERM >> "$0"; exit 0' TERM; echo up >> "$0"; while :; do sleep 0.01; done`
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--ready", "delay:0s", "--reload-signal", "USR2", "--rewrite", "HUP:WINCH", "--rewrite", "QUIT:0", "--settle", "50ms"},
		Command: []string{"sh", "-c", script, out},
	})
	said := func(want string) {
		t.Helper()
		h.Eventually("the child says "+want, within, func() bool {
			b, _ := os.ReadFile(out)
			return string(b) == want
		})
	}
	said("up\n")
	h.WaitLive(1, within)
	h.Signal(syscall.SIGUSR1)
	said("up\nUSR1\n")
	h.Signal(syscall.SIGHUP)
	said("up\nUSR1\nWINCH\n")
	h.Signal(syscall.SIGQUIT) // dropped
	h.Signal(syscall.SIGUSR2) // a handoff
	h.WaitLive(2, within)
	h.WaitGone(within)
	said("up\nUSR1\nWINCH\nup\nTERM\n")
	h.Signal(syscall.SIGUSR1)
	said("up\nUSR1\nWINCH\nup\nTERM\nUSR1\n")
	if m := h.Metrics(); !strings.Contains(m, `holdfast_signals_forwarded_total{signal="SIGUSR1"} 2`) {
		t.Errorf("the metrics do not count the signals:\n%s", m)
	}
}

// TestOrphans: what daemonizes is adopted and reaped, and counted.
func TestOrphans(t *testing.T) {
	needPID1(t)
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--ready", "delay:0s"},
		Command: []string{"sh", "-c", `i=0; while [ $i -lt 50 ]; do (cat "$0" & true) & i=$((i+1)); done; wait; echo orphaned; exec sleep 3600`, fifo},
	})
	h.WaitLog("^orphaned$", within)
	s := h.WaitStatus("50 orphans have been reaped", within, func(s *status.Snapshot) bool {
		if f, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			f.Close() // which ends those that have it open by now
		}
		return s.Counters.Reaped >= 50
	})
	h.Eventually("no zombie is left", within, func() bool { return h.Zombies() == 0 })
	if s.Live != 1 {
		t.Errorf("generation %d is live", s.Live)
	}
}
