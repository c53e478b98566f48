package demo

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"holdfast/handoff/status"
)

// burst is how many SIGHUPs the last step sends at once.
const burst = 20

// step is one thing done to the running server, and what must come of it.
type step struct {
	what    string
	do      func() error
	rolled  bool   // it must be rolled back, and so change nothing
	most    uint64 // how many handoffs it may make; at least one
	version string // which version must answer afterwards
}

func (d *demo) steps() []step {
	hup := func() error { return d.child.signal(syscall.SIGHUP) }
	return []step{
		{what: "SIGHUP: the same server once more", do: hup, most: 1, version: "v1"},
		{what: "the ConfigMap changes: version v2", do: func() error { return d.config.update("v2", behaviourOK) }, most: 1, version: "v2"},
		{
			what: "the ConfigMap changes: version v3, which never gets ready",
			do:   func() error { return d.config.update("v3", behaviourBroken) }, rolled: true, most: 1, version: "v2",
		},
		{what: "the ConfigMap changes: version v4, repaired", do: func() error { return d.config.update("v4", behaviourOK) }, most: 1, version: "v4"},
		{
			what: fmt.Sprintf("%d SIGHUPs at once: what comes during a handoff is one more, no pile", burst),
			do: func() error {
				for range burst {
					if err := hup(); err != nil {
						return err
					}
				}
				return nil
			},
			most: 2, version: "v4",
		},
	}
}

// play starts the load as soon as the first generation is ready, and plays one step after the other.
func (d *demo) play(ctx context.Context) error {
	s, err := d.watch.until(ctx, "the first generation is ready", func(s *status.Snapshot) bool {
		return s.Live == 1 && s.Ready.Live == ""
	})
	if err != nil {
		return err
	}
	d.show.title("generation 1 is ready; load: 4 clients on new connections, 4 on kept ones")
	d.load.Start(ctx)
	stop := d.show.count(d.load)
	defer stop()
	if err := d.dwell(ctx, s.Live, "v1"); err != nil {
		return err
	}
	for i, st := range d.steps() {
		d.show.title(fmt.Sprintf("%d. %s", i+1, st.what))
		if err := d.step(ctx, st); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, st.what, err)
		}
	}
	return nil
}

func (d *demo) step(ctx context.Context, st step) error {
	before := d.watch.last()
	done, failed := handoffs(before)
	if st.rolled {
		d.expected.rolledBack++
	} else {
		d.expected.least++
		d.expected.most += st.most
	}
	if err := st.do(); err != nil {
		return err
	}
	s, err := d.watch.until(ctx, "its handoff has ended", func(s *status.Snapshot) bool {
		c, f := handoffs(s)
		return c+f > done+failed && s.Handoff == nil && !s.Pending
	})
	if err != nil {
		return err
	}
	nowDone, nowFailed := handoffs(s)
	nowDone, nowFailed = nowDone-done, nowFailed-failed
	switch {
	case st.rolled && (nowFailed != 1 || nowDone != 0 || s.Live != before.Live):
		return fmt.Errorf("it was to be rolled back; %d handoffs completed, and generation %d is live", nowDone, s.Live)
	case !st.rolled && (nowFailed != 0 || nowDone > st.most || s.Live <= before.Live):
		return fmt.Errorf("it was to complete; %d handoffs completed, %d failed, and generation %d is live", nowDone, nowFailed, s.Live)
	}
	return d.dwell(ctx, s.Live, st.version)
}

// dwell waits until the live generation has answered a good deal, and checks which version it is.
func (d *demo) dwell(ctx context.Context, live int, version string) error {
	begin := d.load.Snapshot().ByGeneration[live]
	for end := time.Now().Add(patience); ; {
		r := d.load.Snapshot()
		if r.ByGeneration[live] >= begin+dwell {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("generation %d is live and answers too little: %v", live, r)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.child.done:
			return fmt.Errorf("holdfast has ended: %w", d.child.err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if got := d.versions.of(live); got != version {
		return fmt.Errorf("generation %d answers as %s, not %s", live, got, version)
	}
	return nil
}
