package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// statusWatch runs holdfast status --watch on h and returns the lines that it writes.
func statusWatch(t *testing.T, h *harness.Holdfast, flags ...string) (*exec.Cmd, <-chan string) {
	t.Helper()
	cmd := exec.Command(harness.Bin(t), append([]string{"status", "--watch", "--pid", strconv.Itoa(h.PID())}, flags...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := make(chan string)
	go func() {
		defer close(lines)
		read := bufio.NewReader(out)
		for {
			line, err := read.ReadString('\n')
			if err != nil {
				return
			}
			select {
			case lines <- line:
			case <-t.Context().Done():
				_, _ = io.Copy(io.Discard, read)
				return
			}
		}
	}()
	return cmd, lines
}

func awaitLine(t *testing.T, lines <-chan string, what string, ok func(string) bool) {
	t.Helper()
	for timeout := time.After(within); ; {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("the output has ended before: %s", what)
			}
			if ok(line) {
				return
			}
		case <-timeout:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// TestStatusWatch: the command goes on telling of what changes, as text and as JSON, until it is interrupted or holdfast
// has ended.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	h := harness.Run(t, harness.Options{Flags: []string{"--ready", "delay:0s"}, Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=*:hang"}})
	h.WaitLive(1, within)
	asJSON, documents := statusWatch(t, h, "-o", "json")
	asText, texts := statusWatch(t, h)
	isLive := func(n int) func(string) bool {
		return func(line string) bool {
			var d status.Document
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			return d.Live == n
		}
	}
	awaitLine(t, documents, "generation 1 is live", isLive(1))
	awaitLine(t, texts, "generation 1 is live", func(l string) bool { return strings.HasPrefix(l, "live: generation 1 ") })
	h.Signal(syscall.SIGHUP)
	awaitLine(t, documents, "generation 2 is live", isLive(2))
	awaitLine(t, texts, "generation 2 is live", func(l string) bool { return strings.HasPrefix(l, "live: generation 2 ") })

	if err := asJSON.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for range documents {
	}
	if err := asJSON.Wait(); err != nil {
		t.Errorf("interrupted: %v, want exit code 0", err)
	}
	h.Signal(syscall.SIGTERM)
	for range texts {
	}
	if err := asText.Wait(); asText.ProcessState.ExitCode() != 1 {
		t.Errorf("holdfast has ended: %v, want exit code 1", err)
	}
}

// TestCommandLineHidesSecrets: what everybody can read on the probe address has no passwords in it.
func TestCommandLineHidesSecrets(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse"
	h := harness.Run(t, harness.Options{Command: []string{harness.Naughty(t), "--password=" + secret, "--token", secret}, Env: []string{"NAUGHTY=*:hang", "DATABASE_PASSWORD=" + secret}})
	h.WaitStatus("it runs", within, func(s *status.Snapshot) bool { return len(s.Generations) == 1 })
	for _, path := range []string{"/statusz?format=json", "/statusz?format=text", "/statusz?format=html", "/metrics"} {
		if _, body := h.Probe(path); strings.Contains(body, secret) {
			t.Errorf("%s tells the password", path)
		}
	}
}
