package ready

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/handoff/port"
)

// opened waits until the generation has opened the ports that it must, and returns those that it has opened. One that
// need not open any, and does not for a second, has none.
func opened(ctx context.Context, t Target) ([]*port.Port, error) {
	began := t.Clock.Now()
	pause := pauseMin / 8
	for {
		changed := t.changed() // before the look
		held := t.held()
		missing := without(t.Required, held)
		waited := t.Clock.Since(began)
		switch {
		case len(held) > 0 && len(missing) == 0, len(held) > 0 && t.MayChange && waited >= alone:
			return held, nil
		case len(held) == 0 && t.First && waited >= t.patience():
			return nil, ErrNoPort
		case len(held) == 0 && !t.First && (len(t.Required) == 0 || t.MayChange) && waited >= t.patience():
			return nil, nil
		}
		switch {
		case t.Changed != nil || !t.MayOpen: // nothing happens in between but what is told
			pause = t.deadline(waited)
		case waited < alone: // the one instant that must not be slept over
			pause = min(pause, alone-waited)
		}
		if t.awaitChange(ctx, changed, pause, missing) != nil {
			return nil, t.unopened(missing)
		}
		pause = min(2*pause, pauseMin)
	}
}

// awaitChange waits for a change that may be the awaited one, or for as long as pause. Each port that the generation opens
// is a change, of which only the last can be the one: so one of those that were missing is looked at and not, a thousand
// times, all.
func (t Target) awaitChange(ctx context.Context, changed <-chan struct{}, pause time.Duration, missing []*port.Port) error {
	for end := t.Clock.Now().Add(pause); ; {
		if err := await(ctx, t.Clock, end.Sub(t.Clock.Now()), changed); err != nil {
			return err
		}
		if changed = t.changed(); len(missing) == 0 || !t.lacks(missing[len(missing)-1]) || !t.Clock.Now().Before(end) {
			return nil
		}
	}
}

// lacks says for certain that the generation has no socket on a port, and none on another that can stand for it.
func (t Target) lacks(p *port.Port) bool {
	_, has := p.FD(t.Generation)
	return !has && p.Held() && !p.Overlapped()
}

// changed is nil, which never comes, where nobody tells.
func (t Target) changed() <-chan struct{} {
	if t.Changed == nil {
		return nil
	}
	return t.Changed()
}

// deadline is when time alone may next decide, after so long a wait.
func (t Target) deadline(waited time.Duration) time.Duration {
	for _, at := range []time.Duration{alone, t.patience()} {
		if waited < at {
			return at - waited
		}
	}
	return slowStart
}

// unopened says what a generation had not done yet when its time was over.
func (t Target) unopened(missing []*port.Port) error {
	switch {
	case len(missing) > 0:
		return fmt.Errorf("it does not listen on %s", list(missing))
	case t.MayOpen:
		return errors.New("it has opened no port")
	}
	return fmt.Errorf("it holds no port, and has not been alive for %v", alone)
}

// patience is how long a generation may take until it opens its first port, where nothing says that it will: a first one,
// or one whose predecessor may still be at its start.
func (t Target) patience() time.Duration {
	switch {
	case t.MayOpen && t.First:
		return slowStart
	case t.MayOpen && t.LiveUnproven && t.Timeout > 0: // a worker must get through, whatever the timeout
		return max(alone, min(slowStart, t.Timeout/2))
	case t.MayOpen && t.LiveUnproven:
		return slowStart
	}
	return alone
}

// without are those of all that none of some covers: who listens on 0.0.0.0 listens on 127.0.0.1, too.
func without(all, some []*port.Port) []*port.Port {
	has := make(map[*port.Port]bool, len(some)) // mostly it is the very same
	near := make(map[place][]*port.Port, len(some))
	for _, p := range some {
		has[p] = true
		near[placeOf(p)] = append(near[placeOf(p)], p)
	}
	return slices.DeleteFunc(slices.Clone(all), func(p *port.Port) bool {
		return has[p] || slices.ContainsFunc(near[placeOf(p)], func(q *port.Port) bool { return q.Spec().Covers(p.Spec()) })
	})
}

// A place is what two ports have in common if one covers the other.
type place struct {
	network, path string
	number        uint16
}

func placeOf(p *port.Port) place {
	spec := p.Spec()
	return place{spec.Network, spec.Path, spec.Addr.Port()}
}

func list(ports []*port.Port) string {
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = p.Spec().String()
	}
	return strings.Join(names, ", ") + ", which the live generation holds"
}
