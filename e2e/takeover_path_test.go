package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// TestUnixPath: servers that remove their path before they bind it, and again when they stop, never leave their clients
// without it.
func TestUnixPath(t *testing.T) {
	needPID1(t)
	for _, at := range []string{"bind", "socket"} {
		t.Run("gunicorn/"+at, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			path := filepath.Join(dir, "app.sock")
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: []string{"--settle", "100ms", "--takeover-at", at, "-v"},
				Command: []string{"/usr/bin/gunicorn", "--chdir", filepath.Join(harness.Servers(t), "gunicorn"), "-w", "2", "--log-level", "warning", "--bind", "unix:" + path, "app:app"},
			})
			h.WaitLive(1, within)
			stop := connectAll(t, path)
			handOverUnderLoad(t, h, "unix", path, handoffs)
			stop()
			// Before each bind but the first, and at each stop: gunicorn does both.
			if n := h.CountLog("a held path stays"); n < handoffs {
				t.Errorf("%d removals were answered, want at least %d", n, handoffs)
			}
			h.Signal(syscall.SIGTERM)
			h.Wait(within)
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the path is left: %v", err)
			}
		})
	}
	// When it binds for itself it tries first whether somebody answers there, and would give up.
	for name, flags := range map[string]func(path string) []string{
		"bound":         func(string) []string { return nil },
		"bound, socket": func(string) []string { return []string{"--takeover-at", "socket"} },
		"given": func(path string) []string {
			return []string{"--listen", "unix://" + path + "?mode=0666", "--activation", "php-fpm"}
		},
	} {
		t.Run("php-fpm/"+name, func(t *testing.T) {
			t.Parallel()
			fpm := "/usr/sbin/php-fpm8.2"
			if _, err := os.Stat(fpm); err != nil {
				t.Skip(err)
			}
			dir := scratch(t)
			path, conf := filepath.Join(dir, "fpm.sock"), filepath.Join(dir, "fpm.conf")
			text := fmt.Sprintf("[global]\nerror_log=/dev/stderr\ndaemonize=no\n[www]\nuser=nobody\ngroup=nogroup\nlisten=%s\nlisten.mode=0666\npm=static\npm.max_children=2\n", path)
			if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: append([]string{"--settle", "100ms", "-v"}, flags(path)...), Command: []string{fpm, "-y", conf, "-F"},
			})
			h.WaitLive(1, within)
			stop := connectAll(t, path)
			for n := 2; n <= handoffs+1; n++ {
				h.Signal(syscall.SIGHUP)
				h.WaitLive(n, within)
			}
			s := h.WaitGone(within)
			stop()
			if got := harness.Handoffs(s, status.Completed); got != handoffs || len(s.Ports) != 1 {
				t.Errorf("%d handoffs completed, want %d; held: %+v", got, handoffs, s.Ports)
			}
		})
	}
}

// connectAll connects to a path without a pause until the function that it returns is called: each must succeed.
func connectAll(t *testing.T, path string) (stop func()) {
	t.Helper()
	var ended atomic.Bool
	done := make(chan struct{})
	n := 0
	go func() {
		defer close(done)
		for !ended.Load() {
			conn, err := net.Dial("unix", path)
			switch {
			case errors.Is(err, syscall.EAGAIN): // its queue is full
			case err != nil:
				t.Errorf("connection %d: %v", n, err)
				return
			default:
				n++
				conn.Close()
			}
		}
	}()
	return func() {
		t.Helper()
		ended.Store(true)
		<-done
		if t.Logf("%d connections", n); n < 100 {
			t.Errorf("only %d connections: that shows nothing", n)
		}
	}
}

// TestCheckKeepsPath: a check command that removes a held path, as nginx -t does, does not.
func TestCheckKeepsPath(t *testing.T) {
	needPID1(t)
	t.Parallel()
	path := filepath.Join(scratch(t), "app.sock")
	script := served + `
import os
try: os.unlink(sys.argv[1])
except FileNotFoundError: pass
if sys.argv[2:]: sys.exit(0)
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(100)
while True: answer(s.accept()[0])
`
	file := filepath.Join(scratch(t), "server.py")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	h := harness.Run(t, harness.Options{
		PID1: true, Flags: []string{"--settle", "50ms", "--check", fmt.Sprintf("%s %s %s check", python, file, path)},
		Command: []string{python, file, path},
	})
	h.WaitLive(1, within)
	stop := connectAll(t, path)
	for n := 2; n <= 4; n++ {
		h.Signal(syscall.SIGHUP)
		h.WaitLive(n, within)
	}
	h.WaitGone(within)
	stop()
}

// TestRenamedPath: servers that bind one path and rename it over the one that their clients know.
func TestRenamedPath(t *testing.T) {
	needPID1(t)
	for name, suffix := range map[string]string{"always the same": `".tmp"`, "another each time": `".%d" % os.getpid()`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(scratch(t), "app.sock")
			h := harness.Run(t, harness.Options{
				PID1: true, Flags: []string{"--settle", "50ms"}, Command: []string{python, "-c", served + `
own = sys.argv[1] + ` + suffix + `
try: os.unlink(own)
except FileNotFoundError: pass
s = socket.socket(socket.AF_UNIX)
s.bind(own)
s.listen(100)
os.rename(own, sys.argv[1])
s.settimeout(0.05)
stop = []
signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
while True:
    try: answer(s.accept()[0])
    except TimeoutError:
        if stop: break
os.unlink(sys.argv[1])
`, path},
			})
			h.WaitLive(1, within)
			stop := connectAll(t, path)
			r := handOverUnderLoad(t, h, "unix", path, handoffs)
			stop()
			if len(r.ByGeneration) != handoffs+1 {
				t.Errorf("the generations %v have answered", r.Generations())
			}
			if s := h.Status(); len(s.Ports) != 1 {
				t.Errorf("held: %+v", s.Ports)
			}
			left, err := filepath.Glob(path + "*")
			if err != nil || len(left) != 2 { // the path and the live generation's own name
				t.Errorf("%q, %v", left, err)
			}
		})
	}
	t.Run("haproxy", func(t *testing.T) {
		t.Parallel()
		const haproxy = "/usr/sbin/haproxy"
		if _, err := os.Stat(haproxy); err != nil {
			t.Skip(err)
		}
		dir := scratch(t)
		path, conf := filepath.Join(dir, "app.sock"), filepath.Join(dir, "haproxy.cfg")
		text := fmt.Sprintf(`defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 10s
frontend f
  bind unix@%s mode 666
  http-request return status 200 content-type text/plain string ok hdr X-Generation %%[env(HOLDFAST_GENERATION)]
`, path)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		h := harness.Run(t, harness.Options{PID1: true, Flags: []string{"--settle", "50ms"}, Command: []string{haproxy, "-db", "-f", conf}})
		h.WaitLive(1, within)
		stop := connectAll(t, path)
		handOverUnderLoad(t, h, "unix", path, handoffs)
		stop()
	})
}
