package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// TestReadyModes: in each mode a generation is ready when it says or shows so, and not before; the next one must do the
// same.
func TestReadyModes(t *testing.T) {
	for name, c := range map[string]struct {
		flags  []string
		orders func(g gate) string
	}{
		"http":                {[]string{"--ready", "http:/healthz"}, func(g gate) string { return "*:healthy-when=" + string(g) }},
		"notify":              {[]string{"--ready", "notify"}, func(g gate) string { return "*:ready-when=" + string(g) }},
		"notify with barrier": {[]string{"--ready", "notify"}, func(g gate) string { return "*:barrier,status=warming-up,ready-when=" + string(g) }},
		"fd":                  {[]string{"--ready", "fd:7"}, func(g gate) string { return "*:notify-fd=7,ready-when=" + string(g) }},
		"exec":                {[]string{"--ready", "exec:test -e GATE"}, func(gate) string { return "*:ok" }},
		"several":             {[]string{"--ready", "accept", "--ready", "delay:1ms", "--ready", "exec:test -e GATE"}, func(gate) string { return "*:ok" }},
	} {
		t.Run(name, func(t *testing.T) {
			needPID1(t)
			t.Parallel()
			g := newGate(t)
			address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
			flags := []string{"--listen", address, "--settle", "100ms"}
			for _, f := range c.flags {
				flags = append(flags, strings.ReplaceAll(f, "GATE", string(g)))
			}
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: flags, Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=" + c.orders(g)},
			})
			h.WaitStatus("generation 1 runs", within, func(s *status.Snapshot) bool {
				return len(s.Generations) == 1 && !s.Generations[0].Executed.IsZero()
			})
			expectReady(t, h, "before it is ready", "live")
			g.open(t)
			h.WaitLive(1, within)
			g.close(t)
			h.Signal(syscall.SIGHUP)
			phaseIs(h, status.PhaseProve)
			expectReady(t, h, "before the next one is ready", "handoff")
			g.open(t)
			h.WaitLive(2, within)
		})
	}
}

// TestSteeredReadiness: on every kind of port the new generation is asked, and not the live one, which would say yes.
func TestSteeredReadiness(t *testing.T) {
	for name, listen := range map[string]func(t *testing.T) (spec, network, address, mode string){
		"IPv4": func(t *testing.T) (string, string, string, string) {
			address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
			return address, "tcp", address, "http:/healthz"
		},
		"IPv6": func(t *testing.T) (string, string, string, string) {
			address := fmt.Sprintf("[::1]:%d", freeport.Choose(t))
			return address, "tcp", address, "http:/healthz"
		},
		"every IPv4 address": func(t *testing.T) (string, string, string, string) {
			n := freeport.Choose(t)
			return fmt.Sprintf("0.0.0.0:%d", n), "tcp", fmt.Sprintf("127.0.0.1:%d", n), fmt.Sprintf("http:%d/healthz", n)
		},
		"dual stack": func(t *testing.T) (string, string, string, string) {
			n := freeport.Choose(t)
			return fmt.Sprintf(":%d", n), "tcp", fmt.Sprintf("127.0.0.1:%d", n), fmt.Sprintf("http:%d/healthz", n)
		},
		"path": func(t *testing.T) (string, string, string, string) {
			path := filepath.Join(t.TempDir(), "app.sock")
			return "unix://" + path, "unix", path, "http:/healthz"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, network, address, mode := listen(t)
			healthy := newGate(t)
			h := harness.Run(t, harness.Options{
				Flags:   []string{"--listen", spec, "--ready", mode, "--settle", "50ms"},
				Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=1:ok *:healthy-when=" + string(healthy)},
			})
			h.WaitLive(1, within)
			l := load.New(load.Options{Network: network, Address: address, NewWorkers: 2, KeepAliveWorkers: 2, Timeout: within})
			l.Start(t.Context())
			h.Signal(syscall.SIGHUP)
			h.WaitStatus("generation 2 was asked, and says no", within, func(s *status.Snapshot) bool {
				return len(s.Generations) == 2 && s.Generations[1].Detail == mode+": it answered 500 Internal Server Error"
			})
			flow(t, l, 50)
			healthy.open(t)
			s := h.WaitLive(2, within)
			flow(t, l, 50)
			nothingLost(t, l, harness.Cutovers(s, time.Millisecond))
		})
	}
}

// TestTCPReadiness proves a port that is not held, too.
func TestTCPReadiness(t *testing.T) {
	t.Parallel()
	held, own := freeport.Choose(t), freeport.Choose(t)
	h := harness.Run(t, harness.Options{
		Flags: []string{"--listen", fmt.Sprintf("127.0.0.1:%d", held), "--settle", "100ms",
			"--ready", fmt.Sprintf("tcp:%d", held)},
		Command: []string{harness.Naughty(t)},
	})
	h.WaitLive(1, within)
	h.Signal(syscall.SIGHUP)
	h.WaitLive(2, within)

	alone := harness.Run(t, harness.Options{
		Flags:   []string{"--ready", fmt.Sprintf("tcp:%d", own)},
		Command: []string{harness.Naughty(t), fmt.Sprintf("127.0.0.1:%d", own)},
	})
	alone.WaitLive(1, within)
}

// TestForeignNotify: READY=1 counts only from a process of the generation, whatever else the sender knows.
func TestForeignNotify(t *testing.T) {
	needPID1(t)
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))
	name := filepath.Join(t.TempDir(), "notify-socket")
	// The script tells the name of its notify socket and says nothing on it.
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--listen", address, "--ready", "notify"},
		Command: []string{"sh", "-c", `printf %s "$NOTIFY_SOCKET" > "$0.new"; mv "$0.new" "$0"; exec sleep 3600`, name},
	})
	h.Eventually("the script has told its notify socket", within, func() bool { _, err := os.Stat(name); return err == nil })
	socket, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sendNotify(t, string(socket), "READY=1") // this process is in another PID namespace: it has no pid there
	h.WaitLog("not taken: its sender is not of this generation.*pid=0", within)
	expectReady(t, h, "after a stranger's READY=1", "live")
}

// TestEnvironment: --env-file and --env-dir are read anew for every generation; what another holder left is taken out.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, out := filepath.Join(dir, "env"), filepath.Join(dir, "out")
	v := newVolume(t, map[string]string{"COLOUR": "red\n", "SHAPE": "round"})
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("# taste\nTASTE=sweet\nCOLOUR=blue\n")
	h := harness.Run(t, harness.Options{
		Flags:   []string{"--env-file", file, "--env-dir", v.dir, "--ready", "delay:0s", "--settle", "50ms"},
		Command: []string{"sh", "-c", `env > "$0.$HOLDFAST_GENERATION.new"; mv "$0.$HOLDFAST_GENERATION.new" "$0.$HOLDFAST_GENERATION"; exec sleep 3600`, out},
		Env:     []string{"LISTEN_PIDFDID=17", "LISTEN_PID=1", "LISTEN_FDS=3", "NOTIFY_SOCKET=@x", "EINHORN_FD_0=9", "TASTE=sour"},
	})
	environment := func(generation int) string {
		name := fmt.Sprintf("%s.%d", out, generation)
		h.Eventually("the program has told its environment", within, func() bool { _, err := os.Stat(name); return err == nil })
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return "\n" + string(b)
	}
	expect := func(env string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(env, "\n"+w+"\n") {
				t.Errorf("want %s in %s", w, env)
			}
		}
		for _, stale := range []string{"LISTEN_", "EINHORN_"} {
			if strings.Contains(env, "\n"+stale) {
				t.Errorf("%s… is still in %s", stale, env)
			}
		}
	}
	expect(environment(1), "COLOUR=red", "SHAPE=round", "TASTE=sweet", "HOLDFAST_GENERATION=1", "NOTIFY_SOCKET=@x") // its own where nothing is asked of it
	h.WaitLive(1, within)
	write("TASTE=bitter\n")
	v.publish(t, map[string]string{"COLOUR": "green", "SHAPE": "round"})
	h.Signal(syscall.SIGHUP)
	expect(environment(2), "COLOUR=green", "SHAPE=round", "TASTE=bitter", "HOLDFAST_GENERATION=2")
	h.WaitLive(2, within)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if code, said := h.Command("reload", "--wait"); code != 1 || !strings.Contains(said, "env file") {
		t.Errorf("a handoff without its env file: exit code %d: %s", code, said)
	}
}
