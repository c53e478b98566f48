package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/handoff/status"
)

// memoryCgroup makes a cgroup with a memory limit below this process's own, and returns its directory, or skips where that
// is not allowed: a container has its own mostly for reading.
func memoryCgroup(t *testing.T, limit int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.New("no memory controller is mounted")
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		name := fmt.Sprintf("holdfast-test-%d-%d", os.Getpid(), time.Now().UnixNano())
		for _, at := range []struct{ dir, file string }{
			{filepath.Join("/sys/fs/cgroup/memory", parts[2], name), "memory.limit_in_bytes"},
			{filepath.Join("/sys/fs/cgroup/memory", name), "memory.limit_in_bytes"},
			{filepath.Join("/sys/fs/cgroup", parts[2], name), "memory.max"},
		} {
			if err = os.Mkdir(at.dir, 0o755); err != nil {
				continue
			}
			t.Cleanup(func() { removeCgroup(t, at.dir) })
			if err = os.WriteFile(filepath.Join(at.dir, at.file), fmt.Append(nil, limit), 0o644); err == nil {
				return at.dir
			}
		}
	}
	t.Skipf("no cgroup with a memory limit can be made here: %v", err)
	return ""
}

// removeCgroup waits until its processes have gone.
func removeCgroup(t *testing.T, dir string) {
	for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("remove %s: %v", dir, err)
			return
		}
	}
}

// TestMemoryHeadroom runs holdfast in a real cgroup whose limit has room for one generation, and hands over.
func TestMemoryHeadroom(t *testing.T) {
	const tight = "a second generation needs about"
	for name, c := range map[string]struct {
		orders string // of a server that takes 120 MiB or 5, in a cgroup of 200
		flag   string
		then   func(t *testing.T, r run)
	}{
		"warn": {"1:eat=120 *:ok", "warn", func(t *testing.T, r run) {
			r.Signal(syscall.SIGHUP)
			s := r.WaitLive(2, within)
			r.WaitLog("level=WARN.*may not fit the memory limit.*"+tight+" 1[0-9][0-9] MiB.*limit of 200 MiB", within)
			if !strings.Contains(fmt.Sprint(s.Warnings), tight) {
				t.Errorf("the status does not warn: %q", s.Warnings)
			}
		}},
		"refuse": {"*:eat=120", "refuse", func(t *testing.T, r run) {
			if code, out := r.Command("reload", "--wait"); code != 1 || !strings.Contains(out, tight) || !strings.Contains(out, "generation 1 is live") {
				t.Errorf("reload --wait: exit code %d: %s", code, out)
			}
			if s := r.Status(); s.Live != 1 || harness.Handoffs(s, status.FailedHandoff) != 1 || len(s.Generations) != 1 {
				t.Errorf("after it: %+v", s)
			}
		}},
		"sequential": {"*:eat=120", "sequential", func(t *testing.T, r run) {
			l := startLoad(t, r.address)
			flow(t, l, 50)
			r.Signal(syscall.SIGHUP)
			s := r.WaitLive(2, within)
			if _, stopped := s.Last.Seconds[status.PhaseDrain]; !stopped || s.Last.Result != status.Completed {
				t.Errorf("the old generation was not stopped first: %+v", s.Last)
			}
			flow(t, l, 50)
			l.Stop() // a server's own end decides here what is lost
		}},
		"off": {"1:eat=120 *:ok", "off", func(t *testing.T, r run) {
			r.Signal(syscall.SIGHUP)
			if s := r.WaitLive(2, within); len(s.Warnings) != 0 {
				t.Errorf("it warns: %q", s.Warnings)
			}
		}},
		"it fits": {"*:eat=5", "refuse", func(t *testing.T, r run) {
			r.Signal(syscall.SIGHUP)
			if s := r.WaitLive(2, within); len(s.Warnings) != 0 {
				t.Errorf("it warns: %q", s.Warnings)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := memoryCgroup(t, 200<<20)
			t.Parallel()
			r := run{address: fmt.Sprintf("127.0.0.1:%d", freeport.Choose(t))}
			r.Holdfast = harness.Run(t, harness.Options{
				Flags:   []string{"--listen", r.address, "--settle", "200ms", "--memory-headroom", c.flag},
				Command: []string{harness.Naughty(t)}, Env: []string{"NAUGHTY=" + c.orders},
				Wrap: []string{"sh", "-c", fmt.Sprintf(`echo $$ > %s/cgroup.procs && exec "$@"`, dir), "sh"},
			})
			r.WaitLive(1, within)
			c.then(t, r)
		})
	}
}
