package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/e2e/harness"
)

// TestBadInput calls holdfast wrongly in every way: one line on stderr that names the flag and the value and says what
// would be right, and exit code 125. Nothing is started.
func TestBadInput(t *testing.T) {
	bin := harness.Bin(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // the parallel subtests outlive this function
	dir := t.TempDir()
	path, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { path.Close() })
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no variable\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		says []string
		env  string
	}{
		{args: []string{"--listen", "8080"}, says: []string{"--listen", `"8080"`, ":8080"}},
		{args: []string{"--listen", "127.0.0.1:99999"}, says: []string{"--listen", "127.0.0.1:99999", "65535"}},
		{args: []string{"--listen", "127.0.0.1:0"}, says: []string{"--listen", "127.0.0.1:0", "port"}},
		{args: []string{"--listen", "quic://:443"}, says: []string{"--listen", "quic", "udp"}},
		{args: []string{"--listen", ":8080?bcklog=1"}, says: []string{"--listen", "bcklog", "backlog"}},
		{args: []string{"--listen", ":8080", "--listen", ":8080"}, says: []string{"--listen", ":8080", "twice"}},
		{args: []string{"--listen", taken.Addr().String()}, says: []string{"--listen", taken.Addr().String(), "in use", "another"}},
		{args: []string{"--listen", "192.0.2.1:80"}, says: []string{"--listen", "192.0.2.1:80", "no such address"}},
		{args: []string{"--probe-addr", taken.Addr().String()}, says: []string{"--probe-addr", taken.Addr().String(), "in use"}},
		{args: []string{"--probe-addr", "nonsense"}, says: []string{"--probe-addr", "nonsense"}},
		{args: []string{"--drain-timeout", "soon"}, says: []string{"--drain-timeout", "soon", "10s"}},
		{args: []string{"--settle", "-1s"}, says: []string{"--settle", "-1s", "10s"}},
		{args: []string{"--stop-signal", "TREM"}, says: []string{"--stop-signal", "TREM", "SIGUSR1"}},
		{args: []string{"--reload-signal", "TERM"}, says: []string{"--reload-signal", "SIGTERM", "HUP"}},
		{args: []string{"--ready", "always"}, says: []string{"--ready", "always", "accept"}},
		{args: []string{"--ready", "http:8080"}, says: []string{"--ready", "http:8080", "/healthz"}},
		{args: []string{"--takeover", "off", "--ready", "http:/healthz"}, says: []string{"--ready", "http:/healthz", "http:PORT/healthz"}},
		{args: []string{"--ready", "fd:1"}, says: []string{"--ready", "fd:1", "3"}},
		{args: []string{"--listen", "127.0.0.1:9", "--ready", "fd:3"}, says: []string{"--ready", "fd:3", "fd:4"}},
		{args: []string{"--ready", "exec:'open"}, says: []string{"--ready", "exec:'open"}},
		{args: []string{"--check", ""}, says: []string{"--check", "no command"}},
		{args: []string{"--strategy", "both"}, says: []string{"--strategy", "both", "overlap or sequential"}},
		{args: []string{"--strategy", "sequential", "--soak", "1s"}, says: []string{"--soak", "--strategy sequential", "contradict"}},
		{args: []string{"--strategy", "sequential", "--drain-wait-connections"}, says: []string{"--drain-wait-connections", "--strategy sequential", "contradict"}},
		{args: []string{"--takeover", "off", "--takeover-exclude", "80"}, says: []string{"--takeover off", "--takeover-exclude", "contradict"}},
		{args: []string{"--takeover", "off", "--takeover-at", "socket"}, says: []string{"--takeover off", "--takeover-at", "contradict"}},
		{args: []string{"--ready-timeout", "0"}, says: []string{"--ready-timeout", "0s", "60s"}},
		{args: []string{"--listen", "unix://" + file}, says: []string{"--listen", file, "not a socket"}},
		{args: []string{"--listen", "unix:///not/there/app.sock"}, says: []string{"--listen", "/not/there/app.sock", "no directory /not/there"}},
		{args: []string{"--listen", "unix://" + path.Addr().String()}, says: []string{"--listen", path.Addr().String(), "in use", "another"}},
		{args: []string{"-v", "-q"}, says: []string{"--verbose", "--quiet", "contradict"}},
		{args: []string{"--max-draining", "0"}, says: []string{"--max-draining", "0", "at least 1"}},
		{args: []string{"--restart", "sometimes"}, says: []string{"--restart", "sometimes", "on-failure"}},
		{args: []string{"--rewrite", "TERM"}, says: []string{"--rewrite", "TERM", "FROM:TO"}},
		{args: []string{"--remap-exit", "300"}, says: []string{"--remap-exit", "300", "255"}},
		{args: []string{"--watch-action", "signal:HUP"}, says: []string{"--watch-action", "--watch PATH"}},
		{args: []string{"--watch", "/etc", "--watch-action", "reload"}, says: []string{"--watch-action", "reload", "signal:SIGNAL", "exec:COMMAND"}},
		{args: []string{"--watch", "/etc", "--watch-action", "signal:HPU"}, says: []string{"--watch-action", "HPU", "SIGUSR1"}},
		{args: []string{"--watch", "/etc", "--watch-action", "signal:KILL"}, says: []string{"--watch-action", "SIGKILL", "signal:HUP"}},
		{args: []string{"--watch", "/etc", "--watch-action", "exec:"}, says: []string{"--watch-action", "no command"}},
		{args: []string{"--activation", "nginx"}, says: []string{"--activation", "--listen"}},
		{args: []string{"--activation", "apache"}, says: []string{"--activation", "apache", "php-fpm"}},
		{args: []string{"--env-file", "/not/there"}, says: []string{"--env-file", "/not/there", "no such file"}},
		{args: []string{"--env-file", file}, says: []string{"--env-file", file, "line 1", "NAME=value"}},
		{args: []string{"--env-dir", "/not/there"}, says: []string{"--env-dir", "/not/there", "no such file"}},
		{args: []string{"--watch", "/dev/null"}, says: []string{"--watch", "/dev/null"}},
		{args: []string{"--log-format", "xml"}, says: []string{"--log-format", "xml", "text or json"}},
		{args: []string{"--log-level", "loud"}, says: []string{"--log-level", "loud", "debug"}},
		{args: []string{"--no-such-flag"}, says: []string{"--no-such-flag", "unknown", "--help"}},
		{env: "HOLDFAST_SETTLE=later", says: []string{"HOLDFAST_SETTLE", "later", "10s"}},
		{env: "HOLDFAST_LISTEN=:8080\n8081", says: []string{"HOLDFAST_LISTEN", "8081"}},
	} {
		t.Run(strings.Join(append(c.args, c.env), " "), func(t *testing.T) {
			t.Parallel()
			canary := filepath.Join(t.TempDir(), "canary")
			args := append([]string{"--probe-addr="}, c.args...)
			expectComplaint(t, exec.Command(bin, append(args, "--", "touch", canary)...), c.env, c.says)
			if _, err := os.Stat(canary); err == nil {
				t.Error("the child was started all the same")
			}
		})
	}
	for name, args := range map[string][]string{
		"no command":           {},
		"no command behind --": {"--"},
		"an empty command":     {"--", ""},
		"a probe of what":      {"probe", "alive"},
		"two words too many":   {"reload", "now", "please"},
		"no such output":       {"status", "-o", "yaml"},
		"copy to nowhere":      {"copy", "/not/there"},
		"no such pid":          {"status", "--pid", "4194304"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectComplaint(t, exec.Command(bin, args...), "", []string{"holdfast: "})
		})
	}
}

func expectComplaint(t *testing.T, cmd *exec.Cmd, env string, says []string) {
	t.Helper()
	if cmd.Env = os.Environ(); env != "" {
		cmd.Env = append(cmd.Env, env)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 125 {
		t.Errorf("exit code %d, want 125", code)
	}
	said := stderr.String()
	if strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "holdfast: ") {
		t.Errorf("want one line that begins with holdfast, not %q", said)
	}
	for _, want := range says {
		if !strings.Contains(said, want) {
			t.Errorf("want %q in %q", want, said)
		}
	}
	if len(said) > 400 {
		t.Errorf("%d bytes are too much for a line: %q", len(said), said)
	}
	t.Log(said)
}

// TestPrivilegedPort asks for a port that the user may not have.
func TestPrivilegedPort(t *testing.T) {
	needPID1(t)
	t.Parallel()
	h := harness.Run(t, harness.Options{
		PID1: true, Unprivileged: true,
		// In a network namespace of its own the limit is the kernel's default again, and nobody else is asked.
		Wrap:  []string{"sh", "-c", `if [ "$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" -le 80 ]; then exit 99; fi; exec "$@"`, "sh"},
		Flags: []string{"--listen", "127.0.0.1:80"}, Command: []string{"true"},
	})
	code := h.Wait(within)
	if code == 99 {
		t.Skip("here every user may have every port")
	}
	if code != 125 || !strings.Contains(h.Log(), "--listen 127.0.0.1:80: not permitted: ports below 1024 need CAP_NET_BIND_SERVICE") {
		t.Errorf("exit code %d: %s", code, h.Log())
	}
}

// TestHelp: help and version go to stdout, with exit code 0.
func TestHelp(t *testing.T) {
	t.Parallel()
	bin := harness.Bin(t)
	for _, flag := range []string{"--help", "-h", "--version"} {
		out, err := exec.Command(bin, flag).Output()
		if err != nil || !strings.HasPrefix(string(out), "holdfast") {
			t.Errorf("%s: %v: %s", flag, err, out)
		}
	}
	out, _ := exec.Command(bin, "--help").Output()
	for _, want := range []string{"--listen", "--ready-timeout", "default 1m", "HOLDFAST_DRAIN_TIMEOUT", "125"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("--help does not speak of %s", want)
		}
	}
	for i, line := range strings.Split(string(out), "\n") {
		if len(line) > 120 {
			t.Errorf("line %d of --help is %d columns wide: %s", i+1, len(line), line)
		}
	}
}

// TestCopy puts the binary where an init container would.
func TestCopy(t *testing.T) {
	t.Parallel()
	bin, dir := harness.Bin(t), t.TempDir()
	for range 2 { // twice: an init container may run again
		if out, err := exec.Command(bin, "copy", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	out, err := exec.Command(filepath.Join(dir, "holdfast"), "--version").Output()
	if entries, _ := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the copy says %q, %v; the directory holds %v", out, err, entries)
	}
	if got := string(out); !strings.HasPrefix(got, "holdfast ") {
		t.Errorf("the copy says %q", got)
	}
}
