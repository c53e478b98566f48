package handoff

import (
	"syscall"

	"holdfast/reaper"
)

// watchStop looks whether the live generation was stopped at the terminal. If so, this process stops, too: a shell that runs
// holdfast as a job waits for this process, not for the one that Ctrl-Z has stopped, and its user would never get the prompt back.
// PID 1 has no shell above it.
func (l *Loop) watchStop() {
	g, ok := l.generations[l.machine.Live]
	if l.suspended || !ok || g.mainGone || l.o.Session {
		return
	}
	stop := l.reaper.Stopped(g.pid)
	switch {
	case stop == 0, asks(stop) && l.lendTerminal(g):
	case l.foreground == 0 && !asks(stop), l.reaper.PID() == 1, !reaper.Job():
	default:
		l.log.Debug("stopped at the terminal", "generation", g.number, "pid", g.pid, "signal", reaper.SignalName(stop))
		// With all of its group, as Ctrl-Z would have, had that the foreground: a script that waits for this process is part of
		// the job. All at once: were the script stopped first, the shell could have the job go on before this process stops,
		// which nobody would continue then.
		l.stopWith(0)
	}
}

// asks says that who was stopped by a signal wants the terminal, and has not got it.
func asks(stop syscall.Signal) bool { return stop == syscall.SIGTTIN || stop == syscall.SIGTTOU }

// lendTerminal hands the terminal to the live generation that was stopped because it had not got it, and has it go on: this
// process' group has been brought to the foreground meanwhile, which it is not told of, or stdin is not the terminal.
func (l *Loop) lendTerminal(g *generation) bool {
	group := groupOf(g.pid)
	lent, err := reaper.LendTerminal(group, l.foreground)
	if err != nil {
		l.log.Warn("no terminal for the generation that asks for it", "generation", g.number, "err", err)
	}
	if !lent {
		return false
	}
	l.foreground = group
	l.goOn(g)
	return true
}

// goOn has all of a generation's foreground go on that was stopped at the terminal.
func (l *Loop) goOn(g *generation) {
	if err := l.reaper.Signal(g.pid, syscall.SIGCONT, true); err != nil {
		l.log.Warn("cannot have a generation go on", "generation", g.number, "err", err)
	}
}

// groupOf returns the process group of a main process, which another one may lead: it has followed that.
func groupOf(pid int) int {
	if group, ok := reaper.Group(pid); ok {
		return group
	}
	return pid
}

// suspend stops this process, which a shell is waiting for; PID 1 it does not stop. SIGCONT has it go on.
func (l *Loop) suspend() {
	if l.reaper.PID() == 1 {
		return
	}
	l.stopWith(l.reaper.PID())
}

// takenPending takes a stop signal that the kernel still keeps pending. This process stops at it with --job-control, and where the
// live generation does and watchStop would have this process stop after it: then both go on by the same SIGCONT, whenever that
// comes. Passed on after the SIGCONT that has taken it back, it would stop a child that nobody has go on.
func (l *Loop) takenPending(p reaper.Pending) {
	s := syscall.Signal(p)
	switch {
	case !l.signals.Due(p, l.continued):
	case reaper.Job() && (l.o.JobControl || l.stopsAt(s)):
		l.signal(s)
		if err := l.signals.Suspend(p); err != nil {
			l.log.Warn("cannot stop", "err", err)
		}
		l.suspended = true // until the SIGCONT is taken that has ended the stop, or has come before it
	case l.signals.Drop(p): // before it is passed on: what comes from then on is another one
		l.takenStop(s)
	}
}

// takenStop takes a stop signal that waits no more: it is passed on and, with --job-control, obeyed.
func (l *Loop) takenStop(s syscall.Signal) {
	l.signal(s)
	if l.o.JobControl {
		l.suspend()
	}
}

// stopsAt says whether a stop signal to this process stops the live generation, at the terminal that it has been given.
func (l *Loop) stopsAt(s syscall.Signal) bool {
	g, ok := l.generations[l.machine.Live]
	return ok && l.foreground != 0 && g.executed && !g.mainGone && g.leaving == nil && s == l.rewritten(s) && s != l.o.ReloadSignal && reaper.Obeys(g.pid, s)
}

// stopWith stops pid, which is this process or, 0, its whole group. Not where the SIGCONT has come already: nobody would
// send another. A quick fg, say: what the shell waits for is a script around this process, and that had stopped at once.
func (l *Loop) stopWith(pid int) {
	stopped, err := l.signals.Stop(pid, l.continued)
	if err != nil {
		l.log.Warn("cannot stop", "err", err)
	}
	if stopped {
		l.suspended = true
	}
}

// resume gives the live generation the terminal that the shell has given to this process, if it has: fg does so, bg does not.
// The SIGCONT itself is passed on as any signal.
func (l *Loop) resume() {
	l.suspended = false
	if !l.o.Session {
		l.giveTerminal(l.machine.Live)
	}
}
