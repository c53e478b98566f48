package handoff

import (
	"os"
	"syscall"
	"testing"

	"holdfast/reaper"
)

// TestStopsAt: this process stops with the live generation only where that does, at the terminal that it has.
func TestStopsAt(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		change  func(*Loop, *generation)
		want    bool
	}{
		"it has the terminal":      {Options{}, func(*Loop, *generation) {}, true},
		"no terminal":              {Options{}, func(l *Loop, _ *generation) { l.foreground = 0 }, false},
		"no live generation":       {Options{}, func(l *Loop, _ *generation) { l.machine.Live = 0 }, false},
		"its program does not run": {Options{}, func(_ *Loop, g *generation) { g.executed = false }, false},
		"another is to follow it":  {Options{}, func(_ *Loop, g *generation) { g.leaving = &reaper.Exit{} }, false},
		"its main process is gone": {Options{}, func(_ *Loop, g *generation) { g.mainGone = true }, false},
		"rewritten":                {Options{Rewrite: map[syscall.Signal]syscall.Signal{syscall.SIGTSTP: syscall.SIGUSR1}}, func(*Loop, *generation) {}, false},
		"dropped":                  {Options{Rewrite: map[syscall.Signal]syscall.Signal{syscall.SIGTSTP: 0}}, func(*Loop, *generation) {}, false},
		"the reload signal":        {Options{ReloadSignal: syscall.SIGTSTP}, func(*Loop, *generation) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, _, _ := newLoop(t, c.options)
			g := &generation{number: 1}
			sleeper(t, l, g, "sleep")
			live(l, g, true)
			l.foreground = g.pid
			c.change(l, g)
			if got := l.stopsAt(syscall.SIGTSTP); got != c.want {
				t.Errorf("stops: %v, want %v", got, c.want)
			}
		})
	}
}

// TestObeyNot: a stop signal that stops nothing here is passed on and dropped, once, so that the next one comes.
func TestObeyNot(t *testing.T) {
	if !alone(t) {
		return
	}
	l, _, _ := newLoop(t, Options{Rewrite: map[syscall.Signal]syscall.Signal{syscall.SIGTSTP: syscall.SIGUSR1}})
	g := &generation{number: 1}
	sleeper(t, l, g, "sleep")
	live(l, g, true)
	l.foreground = g.pid
	dropped := 0
	due := false
	l.signals.Due = func(reaper.Pending, uint32) bool { return due }
	l.signals.Suspend = func(reaper.Pending) error { t.Error("it is obeyed"); return nil }
	l.signals.Drop = func(p reaper.Pending) bool {
		if dropped++; p != reaper.Pending(syscall.SIGTSTP) {
			t.Errorf("%v is dropped", p)
		}
		return true
	}
	l.taken(os.Signal(reaper.Pending(syscall.SIGTSTP))) // taken back: else the child would get two
	if dropped != 0 {
		t.Error("what is not pending is dropped")
	}
	due = true
	l.taken(os.Signal(reaper.Pending(syscall.SIGTSTP)))
	if e := reaped(t, l, g.pid); !e.Status.Signaled() || e.Status.Signal() != syscall.SIGUSR1 {
		t.Errorf("the child: %v", e)
	}
	if dropped != 1 || l.suspended {
		t.Errorf("dropped %d times, suspended: %v", dropped, l.suspended)
	}
}
