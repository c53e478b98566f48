package handoff

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/handoff/machine"
	"holdfast/reaper"
)

// stop sends the stop signal: to the main process, or, when that has exited, to all that it has left behind. Who belongs to
// the generation is found out before, so that who leaves the tree from then on is still known.
func (l *Loop) stop(g *generation) {
	switch {
	case g.mainGone:
		l.census(func(s seen) { l.stopLeft(g, s) })
	case g.stopDue: // once is enough
	case !g.counted && !l.spared(g):
		g.stopDue = true
		l.countMembers(g)
	default:
		l.stopMain(g)
	}
}

// spared says that nobody of a generation is going to be killed, so that nobody needs to know who belongs to it: holdfast ends
// with its main process, as any init does, and no grace period bounds that. Beside another generation its processes are to
// be told from that one's, which may be killed.
func (l *Loop) spared(g *generation) bool {
	state, _ := l.machine.Generation(g.number)
	return l.machine.Ending == machine.Ended && l.o.GracePeriod <= 0 && !state.Bounded && g.number == l.machine.Live && len(l.generations) == 1
}

// countMembers finds out who belongs to a generation, so that its family remembers them. A stop signal that is due waits for it,
// and what has come after that waits behind it.
func (l *Loop) countMembers(g *generation) {
	if g.counting {
		return
	}
	g.counting = true
	l.census(func(s seen) {
		_, err := s.of(g)
		g.counting, g.counted = false, err == nil
		if !g.stopDue {
			return
		}
		behind := g.behind
		g.stopDue, g.behind = false, nil
		if g.mainGone {
			l.stopLeft(g, s)
		} else if !g.killed {
			l.stopMain(g)
			l.forwardAll(g, behind)
		}
	})
}

// stopMain sends the stop signal to the main process.
func (l *Loop) stopMain(g *generation) {
	s := l.stopSignalFor(g)
	l.noteStop(g)
	l.log.Info("stop signal", "generation", g.number, "pid", g.pid, "signal", reaper.SignalName(s))
	l.forward(g, s)
	if !l.spared(g) {
		l.census(func(seen) {}) // its family then remembers who has come since the last one
	}
}

// stopLeft sends the stop signal to all that a main process has left behind.
func (l *Loop) stopLeft(g *generation, seen seen) {
	if l.generations[g.number] != g || g.killed {
		return
	}
	s := l.stopSignalFor(g)
	l.noteStop(g)
	members := seen.ofAny(g)
	for _, p := range members {
		l.log.Info("stop signal to a process left behind", "generation", g.number, "pid", p.PID, "name", p.Name, "signal", reaper.SignalName(s))
	}
	l.signalMembers(g, members, s, func() {})
}

func (l *Loop) noteStop(g *generation) {
	if g.record.StoppedAt.IsZero() {
		g.record.StoppedAt = l.now()
	}
}

// kill ends everything of a generation at once. seeLeft repeats it for what was forked meanwhile.
func (l *Loop) kill(g *generation, reason string) {
	if !g.killed {
		l.log.Warn("killing what is left of a generation", "generation", g.number, "reason", reason)
	}
	g.killed = true
	g.killing++
	if l.machine.Ending == machine.Exited {
		return // killPending has it done, at once
	}
	l.census(func(s seen) {
		g.killing--
		if l.generations[g.number] == g {
			l.killMembers(g, s.ofAny(g))
		}
	})
}

// killPending ends what is still to be ended when holdfast exits. Nobody waits for the loop any more.
func (l *Loop) killPending() {
	var s *seen
	for _, g := range l.generations {
		if g.killing == 0 {
			continue
		}
		if s == nil {
			now := l.censusNow()
			s = &now
		}
		for _, p := range s.ofAny(g) {
			l.signalMember(g, p, syscall.SIGKILL)
		}
		l.killMain(g)
	}
}

func (l *Loop) killMembers(g *generation, members []reaper.Process) {
	g.killing++
	l.signalMembers(g, members, syscall.SIGKILL, func() {
		g.killing--
		l.killMain(g)
		if g.missed {
			g.missed = false
			l.lookForEmpty()
		}
	})
}

func (l *Loop) killMain(g *generation) {
	if g.mainGone || g.leaving != nil {
		return
	}
	// Also where /proc is not there to tell of the members: the group's number is taken while the leader is not reaped.
	l.signalMember(g, reaper.Process{PID: g.pid}, syscall.SIGKILL)
	l.reaper.Signal(g.pid, syscall.SIGKILL, true)
}

func (l *Loop) signalMember(g *generation, p reaper.Process, s syscall.Signal) {
	if err := l.reaper.SignalMember(p, s); err != nil && !errors.Is(err, unix.ESRCH) {
		l.log.Warn("cannot signal a process", "generation", g.number, "pid", p.PID, "name", p.Name, "err", err)
	}
}

// presets are the programs whose graceful stop is not SIGTERM.
func presets() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"nginx":   syscall.SIGQUIT,  // nginx(8): TERM is the fast shutdown
		"haproxy": syscall.SIGUSR1,  // management guide §4: soft stop
		"httpd":   syscall.SIGWINCH, // stopping.html: graceful-stop
		"apache2": syscall.SIGWINCH,
		"php-fpm": syscall.SIGQUIT, // php-fpm(8): graceful stop
	}
}

// preset returns the signal for a program by its name, in which a version or a build may follow: php-fpm8.2, nginx-debug,
// httpd-prefork. What only begins so is another program, and dies of a SIGQUIT: nginx-ingress-controller.
func preset(name string) (syscall.Signal, bool) {
	for program, s := range presets() {
		switch rest, ok := strings.CutPrefix(name, program); {
		case !ok:
		case strings.Trim(rest, "0123456789.") == "", rest == "-debug", rest == "-prefork", rest == "-worker", rest == "-event":
			return s, true
		}
	}
	return 0, false
}

// stopSignalFor returns the signal that tells a generation to drain and stop. The program is known by the name that its
// main process has now: an entrypoint script has long since executed the server.
func (l *Loop) stopSignalFor(g *generation) syscall.Signal {
	switch {
	case l.o.StopSignal != 0:
		return l.o.StopSignal
	case g.mainGone && l.stopSignal != 0:
		return l.stopSignal
	case g.mainGone:
		return syscall.SIGTERM
	}
	name := filepath.Base(l.o.Command[0])
	switch p, err := reaper.ReadProcess(g.pid); {
	case err == nil && g.executed:
		name = p.Name
	case reaper.Short(err) && l.stopSignal != 0:
		return l.stopSignal // a wrong one would cost requests
	}
	s, ok := preset(name)
	if !ok || missed(g, s) {
		return syscall.SIGTERM // asked anew next time: another generation may have come further than its entrypoint script
	}
	if l.stopSignal != s {
		l.stopSignal = s
		l.log.Info("this program drains at another signal than SIGTERM", "program", name, "signal", reaper.SignalName(s))
	}
	return s
}

// missed says that a generation's main process would never notice a signal: by default it is ignored, and there is no handler
// for it. A busybox named httpd has none, and an apache none yet while it starts. Where /proc does not tell, it is one.
func missed(g *generation, s syscall.Signal) bool {
	if s != syscall.SIGWINCH { // of the presets only this one is ignored by default
		return false
	}
	if !g.executed { // it will come right after execve(2), which resets all handlers
		return true
	}
	catches, err := reaper.Catches(g.pid, s)
	return err == nil && !catches
}
