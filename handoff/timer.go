package handoff

import (
	"math/rand/v2"
	"time"

	"k8s.io/utils/clock"

	"holdfast/handoff/machine"
)

// timerKey names a timer: one of a kind runs for each generation.
type timerKey struct {
	timer      machine.Timer
	generation int
}

type timer struct {
	clock clock.Timer
	at    time.Time // when it fires
}

// The wait between restarts doubles from backoffMin to backoffMax.
const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 30 * time.Second
)

func (l *Loop) length(a machine.Action) time.Duration {
	switch a.Timer {
	case machine.ReadyTimer:
		return l.o.ReadyTimeout
	case machine.SoakTimer:
		return l.o.Soak
	case machine.WaitTimer:
		return l.o.DrainTimeout / 2
	case machine.DrainTimer:
		return l.o.DrainTimeout
	case machine.ShutdownTimer:
		return l.o.ShutdownDelay
	case machine.GraceTimer:
		return l.o.GracePeriod
	case machine.TellTimer:
		return l.o.Settle
	case machine.InterruptTimer:
		return l.o.DrainTimeout
	}
	return backoff(a.N)
}

// backoff returns the wait before restart n, with up to a tenth more so that replicas that died together part.
func backoff(n int) time.Duration {
	d := backoffMax
	if n < 16 {
		d = min(backoffMin<<n, backoffMax)
	}
	return d + rand.N(d/10)
}

func (l *Loop) arm(a machine.Action) {
	d := l.length(a)
	if a.Timer == machine.BackoffTimer {
		l.log.Info("restart after a pause", "attempt", a.N+1, "pause", d.Round(time.Millisecond))
	}
	l.armFor(timerKey{a.Timer, a.Gen}, d)
}

func (l *Loop) armFor(key timerKey, d time.Duration) {
	l.disarm(key)
	t := &timer{at: l.now().Add(d)}
	t.clock = l.o.Clock.AfterFunc(d, func() {
		l.post(func() {
			// It may have been disarmed, or armed anew, while this was on its way.
			if l.timers[key] == t {
				delete(l.timers, key)
				l.fired(key)
			}
		})
	})
	l.timers[key] = t
}

func (l *Loop) disarm(key timerKey) {
	if t, ok := l.timers[key]; ok {
		t.clock.Stop()
		delete(l.timers, key)
	}
}

func (l *Loop) fired(key timerKey) {
	if key.timer == machine.ReadyTimer {
		l.notReadyInTime(key.generation)
		return
	}
	l.feed(machine.Event{Kind: machine.Fired, Timer: key.timer, Gen: key.generation})
}

// after runs f in the loop's goroutine after d, unless the returned function is called before.
func (l *Loop) after(d time.Duration, f func()) (stop func()) {
	stopped := false
	t := l.o.Clock.AfterFunc(d, func() {
		l.post(func() {
			if !stopped {
				f()
			}
		})
	})
	return func() {
		stopped = true
		t.Stop()
	}
}
