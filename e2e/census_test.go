package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/e2e/harness"
)

// TestCensusHoldsNobodyUp: while /proc is being read, which may take as long as it likes, signals are passed on, exits are
// seen and another handoff comes to its cutover. What needs the outcome waits for it, and comes then.
func TestCensusHoldsNobodyUp(t *testing.T) {
	needPID1(t)
	if os.Geteuid() != 0 {
		t.Skip("it mounts")
	}
	t.Parallel()
	dir := t.TempDir()
	log, fifo := filepath.Join(dir, "log"), filepath.Join(dir, "stat")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := `trap 'echo USR1 >> "$0"' USR1; trap 'echo TERM >> "$0"; exit 0' TERM; echo up >> "$0"; while :; do sleep 3600 & wait $!; kill $! 2>/dev/null; done`
	h := harness.Run(t, harness.Options{
		PID1: true, NoProbes: true, // who asks for the status while a generation drains takes a census, too
		Flags: []string{"--ready", "delay:0s", "--settle", "20ms"}, Command: []string{"sh", "-c", script, log},
		Wrap: []string{"sh", "-c", `sleep 3600 & echo $! > "$0" && exec "$@"`, filepath.Join(dir, "pid")}, // of which the census will read no more than this pipe gives
	})
	said := func(what string) {
		t.Helper()
		h.Eventually(fmt.Sprintf("the servers to have said %q", what), within, func() bool {
			b, _ := os.ReadFile(log)
			return string(b) == what
		})
	}
	inside := func(argv ...string) {
		t.Helper()
		argv = append([]string{"--target", strconv.Itoa(h.PID()), "--pid", "--mount"}, argv...)
		if out, err := exec.Command("nsenter", argv...).CombinedOutput(); err != nil {
			t.Fatalf("nsenter %q: %v: %s", argv, err, out)
		}
	}
	said("up\n")
	pid, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	stat := filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat")
	inside("mount", "--bind", fifo, stat)
	h.Signal(syscall.SIGHUP)
	gate := -1
	h.Eventually("a census to read the pipe", within, func() (ok bool) {
		var err error
		gate, err = unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // ENXIO: nobody does
		return err == nil
	})
	h.WaitLog(`msg="generation live" generation=2`, within)
	said("up\nup\n")
	h.Signal(syscall.SIGUSR1)
	said("up\nup\nUSR1\n")
	h.Signal(syscall.SIGHUP)
	h.WaitLog(`msg="generation live" generation=3`, within)
	said("up\nup\nUSR1\nup\n")
	inside("umount", "--lazy", stat)
	if err := unix.Close(gate); err != nil {
		t.Fatal(err)
	}
	said("up\nup\nUSR1\nup\nTERM\nTERM\n")
	h.Signal(syscall.SIGTERM)
	if code := h.Wait(within); code != 0 {
		t.Errorf("exit code %d, want the server's 0", code)
	}
}
