package handoff

import (
	"fmt"
	"maps"
	"syscall"
	"time"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

// WatchAction is a value of --watch-action. Its zero value is the handoff; of the others one is set.
type WatchAction struct {
	Signal  syscall.Signal // for the live generation
	Command []string       // to be run
	Text    string         // as it was given
}

// telling is what the loop keeps of the watch action in flight.
type telling struct {
	record  status.Telling
	stop    func() // ends the wait for the command; nil = none runs
	command *task
}

// beganTell notes that a watch action has begun. What it is about is read now: a change that comes later is one more.
func (l *Loop) beganTell(a machine.Action) {
	l.telling = &telling{record: status.Telling{Generation: a.Gen, ConfigHash: l.readConfig(), Began: l.now()}}
	l.log.Info("watch action began", "action", l.o.WatchAction.Text, "generation", a.Gen, "config", l.telling.record.ConfigHash)
}

// tell carries out the watch action on the live generation.
func (l *Loop) tell(g *generation) {
	l.telling.record.ConfigHash = l.readConfig()
	var err error
	switch {
	case !g.executed:
		err = fmt.Errorf("generation %d does not run yet", g.number)
	case len(l.o.WatchAction.Command) > 0:
		err = l.tellByCommand(g)
		if err == nil {
			return // the command's end is the outcome
		}
	default:
		s := l.o.WatchAction.Signal
		if err = l.reaper.Signal(g.pid, s, l.o.Group); err == nil {
			l.records.forwarded(s)
		} else {
			err = fmt.Errorf("send %s to generation %d: %w", reaper.SignalName(s), g.number, err)
		}
	}
	if err != nil {
		l.follow(machine.Event{Kind: machine.TellFailed, Gen: g.number, Reason: err.Error()})
		return
	}
	l.follow(machine.Event{Kind: machine.Told, Gen: g.number})
}

// tellByCommand runs the command, bounded by the ready timeout.
func (l *Loop) tellByCommand(g *generation) (err error) {
	mine := l.telling
	tooLong := false
	mine.command, err = l.run(l.o.WatchAction.Command, l.execEnvironment(g), false, func(err error) {
		mine.stop()
		if l.telling != mine {
			return
		}
		e := machine.Event{Kind: machine.Told, Gen: g.number}
		switch {
		case tooLong:
			e.Kind, e.Reason = machine.TellFailed, fmt.Sprintf("the command did not end within %v%s", l.o.ReadyTimeout, mine.command.output)
		case err != nil:
			e.Kind, e.Reason = machine.TellFailed, fmt.Sprintf("the command failed: %v", err)
		}
		mine.command = nil
		l.feed(e)
	})
	if err != nil {
		return err
	}
	mine.stop = l.after(l.o.ReadyTimeout, func() {
		tooLong = true
		l.killTask(mine.command)
	})
	return nil
}

// stopTell ends a command whose outcome is not wanted any more.
func (l *Loop) stopTell() {
	if t := l.telling; t != nil && t.command != nil {
		l.killTask(t.command)
	}
}

// reported notes how a watch action has ended. A generation that was told well runs from what it was told.
func (l *Loop) reported(a machine.Action) {
	t := l.telling.record
	l.telling = nil
	t.Result, t.Reason, t.Ended = a.Result, a.Reason, l.now()
	if g, ok := l.generations[a.Gen]; ok && a.Result == status.Completed {
		g.record.ConfigHash = t.ConfigHash
	}
	r := &l.records
	r.tried(t.ConfigHash, a.Result)
	r.told = &t
	r.counters.WatchActions = maps.Clone(r.counters.WatchActions)
	r.counters.WatchActions[a.Result]++
	log := l.log.Info
	if a.Result == status.FailedHandoff {
		log = l.log.Error
	}
	log("watch action "+a.Result, "action", l.o.WatchAction.Text, "generation", a.Gen, "config", t.ConfigHash, "reason", a.Reason,
		"after", t.Ended.Sub(t.Began).Round(time.Microsecond))
}
