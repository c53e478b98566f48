package handoff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
)

// Why a proof ends before it has an outcome.
var (
	errNotWanted = errors.New("the outcome is not wanted any more")
	errTooLate   = errors.New("not ready in time")
)

// prove has a generation show that it is ready: in full when it has not yet, else as far as it can be asked again.
func (l *Loop) prove(g *generation) {
	modes := l.o.Ready
	if state, ok := l.machine.Generation(g.number); ok && state.Proven {
		modes = again(modes)
	}
	l.inBackground(g, func(ctx context.Context, t ready.Target) error { return ready.Prove(ctx, modes, t) }, l.proofEnded)
}

// recheckTimeout is how long a generation that is live may take to show in the soak that it still is ready: it is what the
// kubelet gives a readiness probe by default (timeoutSeconds). It has been quick enough before, and users wait meanwhile.
const recheckTimeout = time.Second

// recheck asks again and again during the soak.
func (l *Loop) recheck(g *generation) {
	modes := again(l.o.Ready)
	check := func(ctx context.Context, t ready.Target) error { return ready.Recheck(ctx, modes, t) }
	l.inBackground(g, check, func(g *generation, err error) {
		if !errors.Is(err, errNotWanted) {
			l.feed(machine.Event{Kind: machine.Unready, Gen: g.number, Reason: err.Error()})
		}
	})
}

func again(modes []ready.Mode) []ready.Mode {
	return slices.DeleteFunc(slices.Clone(modes), func(m ready.Mode) bool { return !m.Again() })
}

// proofEnded is called with the outcome of prove.
func (l *Loop) proofEnded(g *generation, err error) {
	switch {
	case err == nil:
		g.record.Detail = ""
		l.feed(machine.Event{Kind: machine.Proven, Gen: g.number})
	case errors.Is(err, errTooLate):
		l.tooLate(g, notReadyWithin(l.o.ReadyTimeout, err))
	default: // ready.ErrNoPort, say: time would not mend it. Handoffs are possible all the same.
		l.disarm(timerKey{machine.ReadyTimer, g.number})
		l.tooLate(g, err.Error())
	}
}

// notReadyWithin says what the proof was waiting for; that its time is over is said once.
func notReadyWithin(d time.Duration, err error) string {
	why := strings.TrimSuffix(strings.TrimSuffix(err.Error(), errTooLate.Error()), ": ")
	if why == "" {
		return fmt.Sprintf("not ready within %v", d)
	}
	return fmt.Sprintf("not ready within %v: %s", d, why)
}

// notReadyInTime ends a proof whose time is over, so that the proof itself can say what it was waiting for.
func (l *Loop) notReadyInTime(n int) {
	g, ok := l.generations[n]
	switch {
	case !ok:
	case g.cancelProof != nil:
		g.stopProving(errTooLate)
	default:
		l.tooLate(g, fmt.Sprintf("not ready within %v: its program did not begin to run", l.o.ReadyTimeout))
	}
}

func (l *Loop) tooLate(g *generation, reason string) {
	if m := l.machine; !m.Overdue || m.Live != g.number {
		l.log.Warn("generation is not ready", "generation", g.number, "reason", reason)
	}
	g.record.Detail = reason
	l.feed(machine.Event{Kind: machine.Fired, Timer: machine.ReadyTimer, Gen: g.number, Reason: reason})
}

// stopProving ends a proof or recheck that runs; what it says then carries cause.
func (g *generation) stopProving(cause error) {
	if g.cancelProof != nil {
		g.cancelProof(cause)
		g.cancelProof = nil
	}
}

// inBackground runs f in a goroutine of its own and end with its outcome in the loop's, unless it is not wanted by then.
func (l *Loop) inBackground(g *generation, f func(context.Context, ready.Target) error, end func(*generation, error)) {
	g.stopProving(errNotWanted)
	ctx, cancel := context.WithCancelCause(context.Background())
	g.cancelProof = cancel
	target := l.target(g)
	go func() {
		err := f(ctx, target)
		l.post(func() {
			switch cause := context.Cause(ctx); {
			case errors.Is(cause, errNotWanted):
				return
			case cause != nil && err != nil:
				err = tooLateError{err}
			}
			g.stopProving(errNotWanted)
			end(g, err)
		})
	}()
}

// tooLateError is what a proof was waiting for when its time was over.
type tooLateError struct{ why error }

func (e tooLateError) Error() string        { return e.why.Error() }
func (e tooLateError) Is(target error) bool { return target == errTooLate }

func (l *Loop) target(g *generation) ready.Target {
	return ready.Target{
		Generation:     g.number,
		Held:           func() []*port.Port { return l.portsOf(g.number) },
		AllHeld:        l.allPorts,
		Changed:        l.nextChange,
		Required:       l.required(g),
		MayChange:      l.o.PortsMayChange,
		MayOpen:        l.o.Takeover != TakeoverOff,
		LiveUnproven:   !l.liveProven(),
		Timeout:        l.o.ReadyTimeout,
		First:          l.machine.Live == g.number && !g.proven(l),
		Exec:           func(ctx context.Context, command []string) error { return l.exec(ctx, g, command) },
		Notified:       g.notified,
		Written:        g.written,
		Clock:          l.o.Clock,
		RecheckTimeout: recheckTimeout,
		Waiting: func(why string) {
			l.post(func() {
				if g.record.Detail != why {
					g.record.Detail = why
					l.publish()
				}
			})
		},
	}
}

// required are the ports that a generation must have opened: those that the one before it had when it was proven.
func (l *Loop) required(g *generation) []*port.Port {
	live, ok := l.generations[l.machine.Live]
	if !ok || live == g {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(live.provenPorts), func(p *port.Port) bool { return !l.isHeld(p) })
}

func (l *Loop) liveProven() bool {
	live, ok := l.generations[l.machine.Live]
	return ok && live.proven(l)
}

func (g *generation) proven(l *Loop) bool {
	state, ok := l.machine.Generation(g.number)
	return ok && state.Proven
}
