package trigger

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/utils/clock"
)

// Run watches until ctx ends, and then returns nil with everything released. It calls report from the goroutine it runs
// in; while report takes its time, changes wait. It fails if it is running already.
func (w *Watcher) Run(ctx context.Context, report func(Change)) error {
	if !w.running.CompareAndSwap(false, true) {
		return errors.New("watch: it runs already")
	}
	defer w.running.Store(false)

	l := newLoop(w, report)
	defer l.close()
	l.lookAgain(ctx) // what changed since New, and since each watch was put in place
	for ctx.Err() == nil {
		l.step(ctx)
	}
	return nil
}

// loop is the state of one Run.
type loop struct {
	*Watcher
	report  func(Change)
	watches watches
	pending pending
	seen    content // by the read before
	settle  alarm   // when the pending change is due
	poll    alarm   // when to look without being asked
}

func newLoop(w *Watcher, report func(Change)) *loop {
	return &loop{
		Watcher: w,
		report:  report,
		watches: watches{open: w.open, alone: w.options.PollAlone},
		seen:    w.reported,
		settle:  alarm{clock: w.options.Clock},
		poll:    alarm{clock: w.options.Clock},
	}
}

func (l *loop) close() {
	l.settle.set(time.Time{})
	l.poll.set(time.Time{})
	l.watches.close()
}

func (l *loop) step(ctx context.Context) {
	events, errors := l.watches.channels()
	select {
	case <-ctx.Done():
	case e, ok := <-events:
		l.event(e, ok)
	case err := <-errors:
		l.watches.failed(err, l.now())
		l.touch()
	case <-l.settle.rings():
		l.settled(ctx)
	case <-l.poll.rings():
		l.lookAgain(ctx)
	}
}

func (l *loop) now() time.Time { return l.options.Clock.Now() }

func (l *loop) event(e fsnotify.Event, ok bool) {
	if !ok {
		l.watches.close() // a closed channel is ready all the time
	}
	if !ok || l.watches.places.wants(filepath.Clean(e.Name)) {
		l.touch()
	}
}

// touch only starts the quiet time. Nothing is read for an event: a file that somebody writes to all day would be read
// all day.
func (l *loop) touch() { l.wait(l.pending.touched(l.now())) }

func (l *loop) wait(p pending) {
	l.pending = p
	if !p.active() {
		l.settle.set(time.Time{})
		return
	}
	l.settle.set(p.due(l.options.Debounce))
}

// lookAgain is the poll: here a change is noticed that made no event.
func (l *loop) lookAgain(ctx context.Context) {
	before := l.seen
	if _, err := l.look(ctx); err != nil {
		return
	}
	news := len(l.seen.changed(l.reported)) > 0
	if news && (!l.pending.active() || len(l.seen.changed(before)) > 0) {
		l.touch()
	}
}

// look puts the watches where they belong now, and then reads: in this order, so that what changes in between makes an
// event. It is true if nothing can have changed unnoticed since the read before.
func (l *loop) look(ctx context.Context) (stable bool, err error) {
	fresh := l.watches.sync(placesOf(l.targets), l.now())
	l.conditions.set("inotify", l.watches.warnings())
	found := l.scan(ctx)
	if err := ctx.Err(); err != nil {
		return false, err // half a reading looks like vanished files
	}
	before := l.seen
	l.seen = l.adopt(found)
	l.poll.set(l.now().Add(l.period()))
	return !fresh || len(l.seen.changed(before)) == 0, nil
}

func (l *loop) period() time.Duration {
	if l.watches.covered() {
		return l.options.Poll
	}
	return min(l.options.PollAlone, l.options.Poll)
}

// settled looks at a change whose quiet time has passed.
func (l *loop) settled(ctx context.Context) {
	l.settle.set(time.Time{})
	stable, err := l.look(ctx)
	if err != nil {
		return
	}
	names := l.seen.changed(l.reported)
	s := sight{changed: len(names) > 0, stable: stable, jitter: l.options.Jitter}
	switch now := l.now(); l.pending.decide(s, now, l.options.Debounce) {
	case drop:
		l.options.Log.Debug("watched paths touched: nothing new in them", "config", l.hashOf(l.seen))
		l.wait(pending{})
	case wait:
		l.touch()
	case delay:
		by := l.options.Random(l.options.Jitter)
		l.options.Log.Info("watched content changed: waiting, so that a fleet does not move at once", "config", l.hashOf(l.seen), "delay", by)
		l.wait(l.pending.delayed(now, by))
	case report:
		l.tell(names)
	}
}

func (l *loop) tell(names []string) {
	l.wait(pending{})
	l.reported = l.seen.over(l.reported)
	asked := slices.ContainsFunc(names, func(name string) bool { return under(name, l.triggers) })
	l.report(Change{Hash: l.hashOf(l.seen), Paths: names[:min(len(names), maxNamed)], Asked: asked})
}

// alarm is a timer that can be off. It makes a new one for each time, because a timer that has rung and was not heard
// can't be set again safely on every clock.
type alarm struct {
	clock clock.Clock
	at    time.Time
	timer clock.Timer
}

// set sets the alarm; the zero time turns it off.
func (a *alarm) set(at time.Time) {
	if a.timer != nil && at.Equal(a.at) {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	if a.at = at; !at.IsZero() {
		a.timer = a.clock.NewTimer(at.Sub(a.clock.Now()))
	}
}

func (a *alarm) rings() <-chan time.Time {
	if a.timer == nil {
		return nil
	}
	return a.timer.C()
}
