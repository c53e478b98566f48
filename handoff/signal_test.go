package handoff

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

func TestPreset(t *testing.T) {
	for name, want := range map[string]syscall.Signal{
		"nginx": syscall.SIGQUIT, "nginx-debug": syscall.SIGQUIT,
		"haproxy": syscall.SIGUSR1,
		"httpd":   syscall.SIGWINCH, "httpd-prefork": syscall.SIGWINCH, "apache2": syscall.SIGWINCH,
		"php-fpm": syscall.SIGQUIT, "php-fpm8.2": syscall.SIGQUIT, "php-fpm7": syscall.SIGQUIT,
		// Programs of their own, which know nothing of these signals.
		"nginx-ingress-c": 0, "nginx_exporter": 0, "haproxy-ingress": 0, "haproxy_exporter": 0, "httpd-foregroun": 0,
		"apache2-foregro": 0, "lighttpd": 0, "sh": 0, "": 0, "node": 0, "php": 0, "apache": 0,
	} {
		if got, ok := preset(name); got != want || ok != (want != 0) {
			t.Errorf("preset(%q) = %d, %v, want %d", name, int(got), ok, int(want))
		}
	}
}

// TestStopSignal: by the name that the main process has now, not by what was typed, nor by what another generation had.
func TestStopSignal(t *testing.T) {
	l, _, log := newLoop(t, Options{Command: []string{"/docker-entrypoint.sh", "nginx"}})
	ask := func(what string, g *generation, want syscall.Signal) {
		t.Helper()
		if got := l.stopSignalFor(g); got != want {
			t.Errorf("%s: %s, want %s", what, reaper.SignalName(got), reaper.SignalName(want))
		}
	}
	script, server, next := &generation{number: 1}, &generation{number: 2}, &generation{number: 3}
	ask("before its program runs", script, syscall.SIGTERM)
	sleeper(t, l, script, "sleep")
	ask("still in its entrypoint script", script, syscall.SIGTERM)
	sleeper(t, l, server, "nginx")
	ask("nginx", server, syscall.SIGQUIT)
	ask("nginx once more", server, syscall.SIGQUIT)
	sleeper(t, l, next, "sleep")
	ask("the next one in its script", next, syscall.SIGTERM)
	server.mainGone = true
	ask("what an nginx has left behind", server, syscall.SIGQUIT)
	if n := strings.Count(log.String(), "drains at another signal"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	l.o.StopSignal = syscall.SIGINT
	ask("the one asked for", next, syscall.SIGINT)

	l, _, _ = newLoop(t, Options{Command: []string{"/usr/sbin/haproxy", "-W"}})
	ask("by the command line until its program runs", &generation{number: 1, pid: 1 << 30}, syscall.SIGUSR1)
	l, _, _ = newLoop(t, Options{})
	ask("without a name, and nothing learnt", &generation{number: 1, mainGone: true}, syscall.SIGTERM)
}

// TestStopSignalMissed: what is ignored by default would never stop a program that has no handler for it.
func TestStopSignalMissed(t *testing.T) {
	l, _, log := newLoop(t, Options{Command: []string{"httpd"}})
	plain, unknown := &generation{number: 1}, &generation{number: 2, pid: 1 << 30, executed: true}
	if got := l.stopSignalFor(plain); got != syscall.SIGTERM {
		t.Errorf("before its program runs: %s", reaper.SignalName(got))
	}
	sleeper(t, l, plain, "httpd")
	if got := l.stopSignalFor(plain); got != syscall.SIGTERM {
		t.Errorf("without a handler: %s", reaper.SignalName(got))
	}
	if strings.Contains(log.String(), "drains at another signal") {
		t.Error("it is said to drain at another signal")
	}
	if got := l.stopSignalFor(catching(t)); got != syscall.SIGWINCH {
		t.Errorf("with a handler: %s", reaper.SignalName(got))
	}
	if got := l.stopSignalFor(unknown); got != syscall.SIGWINCH {
		t.Errorf("where /proc does not tell: %s", reaper.SignalName(got))
	}
}

// catching starts a shell named httpd that catches SIGWINCH.
func catching(t *testing.T) *generation {
	t.Helper()
	path := t.TempDir() + "/httpd"
	if err := os.Symlink("/bin/sh", path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", `trap : WINCH; echo up; while :; do sleep 1; done`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return &generation{number: 3, pid: cmd.Process.Pid, executed: true}
}

// live makes g the live generation of l's machine.
func live(l *Loop, g *generation, proven bool) {
	l.generations[g.number] = g
	l.machine.Live, l.machine.Next = g.number, g.number
	l.machine.Gens = []machine.Generation{{Number: g.number, State: status.Live, Executed: g.executed, Proven: proven}}
}

// reaped waits for the end of a child, as the loop would be told.
func reaped(t *testing.T, l *Loop, pid int) reaper.Exit {
	t.Helper()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for e := range l.reaper.Reap() {
		if e.PID == pid {
			return e
		}
	}
	t.Fatalf("child %d was not reaped", pid)
	return reaper.Exit{}
}

// TestSignalRouting: which generation gets what, after rewriting.
func TestSignalRouting(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, c := range map[string]struct {
		rewrite map[syscall.Signal]syscall.Signal
		send    syscall.Signal
		live    syscall.Signal // what ends the live generation; 0 = nothing
		old     syscall.Signal // what ends the one that drains
		pending string         // the trigger that is remembered
		ending  machine.Ending
	}{
		"USR1 to the live one":      {nil, syscall.SIGUSR1, syscall.SIGUSR1, 0, "", machine.NotEnding},
		"real-time":                 {nil, 40, 40, 0, "", machine.NotEnding},
		"INT to all":                {nil, syscall.SIGINT, syscall.SIGINT, syscall.SIGINT, "", machine.NotEnding},
		"TERM is the stop signal":   {nil, syscall.SIGTERM, syscall.SIGALRM, syscall.SIGALRM, "", machine.Ended},
		"HUP is the trigger":        {nil, syscall.SIGHUP, 0, 0, "signal", machine.NotEnding},
		"USR2 rewritten":            {map[syscall.Signal]syscall.Signal{syscall.SIGUSR2: syscall.SIGUSR1}, syscall.SIGUSR2, syscall.SIGUSR1, 0, "", machine.NotEnding},
		"USR2 rewritten to HUP":     {map[syscall.Signal]syscall.Signal{syscall.SIGUSR2: syscall.SIGHUP}, syscall.SIGUSR2, 0, 0, "signal", machine.NotEnding},
		"HUP rewritten, passed on":  {map[syscall.Signal]syscall.Signal{syscall.SIGHUP: syscall.SIGUSR1}, syscall.SIGHUP, syscall.SIGUSR1, 0, "", machine.NotEnding},
		"USR1 dropped":              {map[syscall.Signal]syscall.Signal{syscall.SIGUSR1: 0}, syscall.SIGUSR1, 0, 0, "", machine.NotEnding},
		"TERM rewritten to INT":     {map[syscall.Signal]syscall.Signal{syscall.SIGTERM: syscall.SIGINT}, syscall.SIGTERM, syscall.SIGINT, syscall.SIGINT, "", machine.NotEnding},
		"rewriting is not repeated": {map[syscall.Signal]syscall.Signal{syscall.SIGUSR2: syscall.SIGUSR1, syscall.SIGUSR1: 0}, syscall.SIGUSR2, syscall.SIGUSR1, 0, "", machine.NotEnding},
	} {
		t.Run(name, func(t *testing.T) {
			l, _, _ := newLoop(t, Options{ReloadSignal: syscall.SIGHUP, StopSignal: syscall.SIGALRM, Rewrite: c.rewrite, MaxDraining: 8})
			old, g := &generation{number: 1}, &generation{number: 2}
			sleeper(t, l, old, "sleep")
			sleeper(t, l, g, "sleep")
			live(l, g, false) // so that a trigger waits
			l.generations[1] = old
			l.machine.Gens = append([]machine.Generation{{Number: 1, State: status.Draining, Executed: true, Proven: true}}, l.machine.Gens...)
			l.signal(c.send)
			if c.ending == machine.Ended { // who is to stop is found out before
				run(t, l, "a census for the one")
				run(t, l, "a census for the other")
			}
			for who, want := range map[*generation]syscall.Signal{g: c.live, old: c.old} {
				if want == 0 {
					if err := syscall.Kill(who.pid, syscall.SIGKILL); err != nil { // SIGKILL is what it then ends by
						t.Fatal(err)
					}
					want = syscall.SIGKILL
				}
				var status syscall.WaitStatus
				if _, err := syscall.Wait4(who.pid, &status, 0, nil); err != nil || status.Signal() != want {
					t.Errorf("generation %d: %v, status %#x, want %s", who.number, err, status, reaper.SignalName(want))
				}
			}
			if l.machine.Pending != c.pending || l.machine.Ending != c.ending {
				t.Errorf("pending %q, ending %d, want %q, %d", l.machine.Pending, l.machine.Ending, c.pending, c.ending)
			}
		})
	}
}

// TestSignalBeforeExec: what comes before the program runs is kept for it.
func TestSignalBeforeExec(t *testing.T) {
	if !alone(t) {
		return
	}
	l, _, _ := newLoop(t, Options{Ready: nil})
	g := &generation{number: 1}
	sleeper(t, l, g, "sleep")
	g.executed = false
	live(l, g, false)
	l.signal(syscall.SIGUSR2)
	l.signal(syscall.SIGUSR1)
	if !slices.Equal(g.kept, []syscall.Signal{syscall.SIGUSR2, syscall.SIGUSR1}) {
		t.Fatalf("kept %v", g.kept)
	}
	if err := syscall.Kill(g.pid, 0); err != nil {
		t.Fatal(err)
	}
	l.executed(g)
	if e := reaped(t, l, g.pid); e.Code() != 128+int(syscall.SIGUSR2) && e.Code() != 128+int(syscall.SIGUSR1) {
		t.Errorf("it ended by %v", e)
	}
	if g.kept != nil {
		t.Errorf("still kept: %v", g.kept)
	}
}

// TestSignalTooLate: what was kept for a program that has run and ended meanwhile goes nowhere: its pid is free.
func TestSignalTooLate(t *testing.T) {
	if !alone(t) {
		return
	}
	l, _, log := newLoop(t, Options{})
	g := &generation{number: 1, launch: &launch{told: make(chan struct{})}}
	close(g.launch.told)
	sleeper(t, l, g, "sleep")
	g.executed = false
	g.record.Started = time.Now()
	live(l, g, false)
	l.signal(syscall.SIGUSR1)
	if err := syscall.Kill(g.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.mainExited(g, reaped(t, l, g.pid))
	if strings.Contains(log.String(), "cannot forward") {
		t.Error("it was sent to a pid that is nobody's")
	}
	if l.exit == nil || l.exit.Code != 137 {
		t.Errorf("exit %+v, want code 137", l.exit)
	}
}

// TestForwardTwoAtOnce: two main processes that end at the same time: the first one's end has a signal sent to the
// second, which is a zombie then, and not yet another process.
func TestForwardTwoAtOnce(t *testing.T) {
	if !alone(t) {
		return
	}
	l, _, log := newLoop(t, Options{StopSignal: syscall.SIGTERM})
	one, two := &generation{number: 1}, &generation{number: 2}
	for _, g := range []*generation{one, two} {
		sleeper(t, l, g, "sleep")
		g.counted = true
		if err := syscall.Kill(g.pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, g.pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
	}
	for e := range l.reaper.Reap() {
		if e.PID == one.pid {
			one.mainGone = true
			l.stop(two)
		} else {
			two.mainGone = true
			l.stop(one)
		}
		break
	}
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("log: %s", log)
	}
}
