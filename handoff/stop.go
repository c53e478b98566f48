package handoff

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// stop sends the stop signal: to the main process, or, when that has exited, to all that it has left behind.
func (l *Loop) stop(g *generation) {
	s := l.stopSignalFor(g)
	var members []reaper.Process
	if g.mainGone || !g.counted {
		members = l.members(g) // also so that who leaves the tree from now on is still known
	}
	if g.record.StoppedAt.IsZero() {
		g.record.StoppedAt = l.now()
	}
	if !g.mainGone {
		l.log.Info("stop signal", "generation", g.number, "pid", g.pid, "signal", reaper.SignalName(s))
		l.forward(g, s)
		if g.counted {
			l.members(g) // who has come since the last count
		}
		return
	}
	for _, p := range members {
		l.log.Info("stop signal to a process left behind", "generation", g.number, "pid", p.PID, "name", p.Name, "signal", reaper.SignalName(s))
		l.signalMember(g, p, s)
	}
}

// kill ends everything of a generation at once. lookForEmpty repeats it for what was forked meanwhile.
func (l *Loop) kill(g *generation, reason string) {
	if !g.killed {
		l.log.Warn("killing what is left of a generation", "generation", g.number, "reason", reason)
	}
	g.killed = true
	for _, p := range l.members(g) {
		l.signalMember(g, p, syscall.SIGKILL)
	}
	if !g.mainGone && g.leaving == nil {
		// Also where /proc is not there to tell of the members: the group's number is taken while the leader is not reaped.
		l.signalMember(g, reaper.Process{PID: g.pid}, syscall.SIGKILL)
		l.reaper.Signal(g.pid, syscall.SIGKILL, true)
	}
}

func (l *Loop) signalMember(g *generation, p reaper.Process, s syscall.Signal) {
	if err := l.reaper.Signal(p.PID, s, false); err != nil && !errors.Is(err, unix.ESRCH) {
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
	if !ok {
		return syscall.SIGTERM // asked anew next time: another generation may have come further than its entrypoint script
	}
	if l.stopSignal != s {
		l.stopSignal = s
		l.log.Info("this program drains at another signal than SIGTERM", "program", name, "signal", reaper.SignalName(s))
	}
	return s
}
