package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// needContainer skips where runc can run no container; in CI it fails.
func needContainer(t *testing.T) {
	t.Helper()
	err := harness.CanRunc()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("no container can be run here: %v", err)
	default:
		t.Skipf("no container can be run here: %v", err)
	}
}

// A container as docker run starts it, one that may gain no privileges, and one as restricted pods are.
func asDocker(t *testing.T) harness.Container {
	capabilities := harness.DockerCapabilities()
	return harness.Container{Capabilities: capabilities, Seccomp: harness.DockerSeccomp(t, capabilities...)}
}

func asDockerNoNewPrivs(t *testing.T) harness.Container {
	c := asDocker(t)
	c.NoNewPrivs = true
	return c
}

func restricted(t *testing.T) harness.Container {
	return harness.Container{UID: 65532, GID: 65532, NoNewPrivs: true, ReadOnly: true, Seccomp: harness.DockerSeccomp(t)}
}

// place is where a program of a test is started.
type place struct{ dir, scratch, port string }

func (p place) address() string { return net.JoinHostPort("127.0.0.1", p.port) }

func newPlace(t *testing.T) place {
	return place{dir: harness.Servers(t), scratch: scratch(t), port: strconv.Itoa(freeport.Choose(t))}
}

// python is the command line of e2e/servers/python.
func (p place) python(ways ...string) []string {
	return append([]string{"/usr/bin/python3", filepath.Join(p.dir, "python", "server.py"), p.address()}, ways...)
}

func (p place) script(name string, args ...string) []string {
	return append([]string{"/bin/sh", filepath.Join(p.dir, name, "start.sh")}, args...)
}

func (p place) gunicorn(args ...string) []string {
	command := []string{"/usr/bin/gunicorn", "--chdir", filepath.Join(p.dir, "gunicorn"), "-w", "2", "--log-level", "warning"}
	return append(append(command, "--bind", p.address(), "app:app"), args...)
}

func (p place) npm() []string {
	return []string{
		"env", "PORT=" + p.port, "npm_config_update_notifier=false", "npm_config_cache=" + p.scratch, "HOME=" + p.scratch,
		"/usr/bin/npm", "--prefix", filepath.Join(p.dir, "node"), "--silent", "start",
	}
}

// A program binds for itself, in one of the ways in which images start theirs.
type program struct {
	name    string
	needs   string // a file that must be there; e2e/deps.sh installs it
	command func(t *testing.T, p place) []string
}

// asRoot are programs that begin as root and do not stay it.
func asRoot() []program {
	return []program{
		{"gosu", "/usr/sbin/gosu", func(_ *testing.T, p place) []string {
			return append([]string{"/usr/sbin/gosu", "nobody"}, p.gunicorn()...)
		}},
		{"setpriv", "/usr/bin/setpriv", func(t *testing.T, p place) []string {
			return []string{"/usr/bin/setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", harness.Naughty(t), p.address()}
		}},
		{"nginx that drops", "/usr/sbin/nginx", func(_ *testing.T, p place) []string {
			return p.script("nginx", p.scratch, p.port, "www-data")
		}},
		{"Apache that drops", "/usr/sbin/apache2", func(_ *testing.T, p place) []string {
			return p.script("apache", p.scratch, p.port, "www-data")
		}},
		{"gunicorn that drops", "/usr/bin/gunicorn", func(_ *testing.T, p place) []string {
			return p.gunicorn("--user", "www-data", "--group", "www-data", "--worker-tmp-dir", "/tmp")
		}},
		{"a server that drops after its bind", "", func(_ *testing.T, p place) []string { return p.python("drop=www-data") }},
		{"a server that drops before it listens", "", func(_ *testing.T, p place) []string { return p.python("drop-between=www-data") }},
	}
}

// asAnybody are programs that need to be nobody in particular.
func asAnybody() []program {
	return []program{
		{"static", "", func(t *testing.T, p place) []string { return []string{harness.Naughty(t), p.address()} }},
		{"dynamic", "", func(_ *testing.T, p place) []string { return p.python() }},
		{"bind in another thread", "", func(_ *testing.T, p place) []string { return p.python("thread") }},
		{"workers that bind", "", func(_ *testing.T, p place) []string { return p.python("fork") }},
		{"workers that accept", "", func(_ *testing.T, p place) []string { return p.python("prefork") }},
		{"sh -c exec", "", func(t *testing.T, p place) []string {
			return []string{"/bin/sh", "-c", "exec " + harness.Naughty(t) + " " + p.address()}
		}},
		{"sh -c and wait", "", func(t *testing.T, p place) []string {
			return []string{"/bin/sh", "-c", harness.Naughty(t) + " " + p.address() + " & wait"}
		}},
		{"sh -c and a second command", "", func(t *testing.T, p place) []string {
			return []string{"/bin/sh", "-c", harness.Naughty(t) + " " + p.address() + "; echo the end"}
		}},
		{"npm start", "/usr/bin/npm", func(_ *testing.T, p place) []string { return p.npm() }},
		{"bundle exec puma", "/usr/bin/puma", func(_ *testing.T, p place) []string { return p.script("puma", p.scratch, p.port) }},
		{"supervisord", "/usr/bin/supervisord", func(_ *testing.T, p place) []string {
			return p.script("supervisor", append([]string{p.scratch}, p.gunicorn()...)...)
		}},
	}
}

// TestSurroundings hands servers over that bind for themselves, in the containers that they are found in.
func TestSurroundings(t *testing.T) {
	needContainer(t)
	for _, s := range []struct {
		name      string
		container func(*testing.T) harness.Container
		programs  []program
	}{
		{"docker", asDocker, slices.Concat(asRoot(), asAnybody())},
		{"docker, no_new_privs", asDockerNoNewPrivs, asRoot()},
		{"restricted", restricted, asAnybody()},
	} {
		for _, p := range s.programs {
			t.Run(s.name+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				if _, err := os.Stat(p.needs); p.needs != "" && err != nil {
					t.Fatalf("%v: run e2e/deps.sh", err)
				}
				at := newPlace(t)
				c := s.container(t)
				c.Scratch = []string{at.scratch}
				h := handOverAt(t, harness.Options{Container: &c, Command: p.command(t, at)}, at)
				checkSurroundings(t, h, c)
				if z := h.Zombies(); z != 0 {
					t.Errorf("%d zombies", z)
				}
				h.Signal(syscall.SIGTERM)
				h.Wait(within)
			})
		}
	}
}

// handOverAt runs o, with the takeover required, and hands over a few times under load.
func handOverAt(t *testing.T, o harness.Options, at place) *harness.Holdfast {
	t.Helper()
	o.Flags = append([]string{"--takeover", "require", "--settle", "200ms", "--drain-timeout", "2m"}, o.Flags...)
	h := harness.Run(t, o)
	h.WaitLive(1, within)
	l := startLoad(t, at.address())
	flow(t, l, 50)
	const times = 3
	var cutovers []load.Cutover
	for n := 2; n <= times+1; n++ {
		h.Signal(syscall.SIGHUP)
		s := h.WaitLive(n, within)
		cutovers = append(cutovers, harness.Cutovers(s, time.Millisecond)...)
		flow(t, l, 30)
	}
	s := h.WaitGone(within)
	nothingLost(t, l, cutovers)
	if got := harness.Handoffs(s, status.Completed); got != times {
		t.Errorf("%d handoffs completed, want %d", got, times)
	}
	if len(s.Ports) != 1 || s.Ports[0].Port != at.address() || s.Ports[0].Switch != "reuseport" {
		t.Errorf("held: %+v, want %s only", s.Ports, at.address())
	}
	if n := h.CountLog("level=(WARN|ERROR)"); n != 0 {
		t.Errorf("%d lines of the log say that something was not as it should be", n)
	}
	return h
}

// checkSurroundings fails the test if holdfast's or its programs' privileges are not what the test is about: without
// CAP_SYS_PTRACE and CAP_SYS_ADMIN, and the programs' filter stacked upon the container's.
func checkSurroundings(t *testing.T, h *harness.Holdfast, c harness.Container) {
	t.Helper()
	const tooMuch = 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SYS_ADMIN
	for _, p := range h.Processes() {
		filters, noNewPrivs := "2", "1" // that of the program, and no_new_privs, without which it would need CAP_SYS_ADMIN
		if p.PID == h.PID() {
			filters, noNewPrivs = "1", map[bool]string{true: "1", false: "0"}[c.NoNewPrivs]
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		if err != nil {
			continue // it has ended
		}
		capabilities, err := strconv.ParseUint(statusLine(text, "CapBnd"), 16, 64)
		if err != nil || capabilities&tooMuch != 0 {
			t.Errorf("%s has the capabilities %x, %v", p.Comm, capabilities, err)
		}
		if got := statusLine(text, "Seccomp_filters"); got != filters {
			t.Errorf("%s is under %s filters, want %s", p.Comm, got, filters)
		}
		if got := statusLine(text, "NoNewPrivs"); got != noNewPrivs {
			t.Errorf("%s has NoNewPrivs %s, want %s", p.Comm, got, noNewPrivs)
		}
	}
}

func statusLine(text []byte, key string) string {
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
