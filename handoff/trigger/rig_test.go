package trigger_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/handoff/trigger"

	clocktesting "k8s.io/utils/clock/testing"
)

const (
	debounce = time.Second
	patience = 90 * time.Second // of real time, for a loaded machine
	never    = 10000 * time.Hour
)

// rig runs a watcher on a fake clock, whose poll never comes, so that what is reported was seen through inotify. It
// always watches one file more, the sentinel: that a change of it is the next report proves that nothing came before.
type rig struct {
	t        *testing.T
	clock    *clocktesting.FakeClock
	w        *trigger.Watcher
	changes  chan trigger.Change
	sentinel string
	count    int
	strict   bool // everything must come through inotify
	stop     func()
}

func newRig(t *testing.T, o trigger.Options) *rig {
	t.Helper()
	r := &rig{
		t:        t,
		clock:    clocktesting.NewFakeClock(time.Unix(1700000000, 0)),
		changes:  make(chan trigger.Change),
		sentinel: filepath.Join(t.TempDir(), "sentinel"),
	}
	write(t, r.sentinel, "0")
	if o.Debounce == 0 {
		o.Debounce = debounce
	}
	if o.Poll == 0 {
		o.Poll = never
	}
	o.Clock = r.clock
	o.Paths = append(slices.Clone(o.Paths), r.sentinel)
	w, err := trigger.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.w = w
	return r
}

// run starts the watcher and waits until its watches are in place.
func (r *rig) run() *rig {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- r.w.Run(ctx, func(c trigger.Change) {
			select {
			case r.changes <- c:
			case <-ctx.Done():
			}
		})
	}()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		r.stop = func() {}
	}
	r.t.Cleanup(func() { r.stop() })
	r.until("the poll is set", r.clock.HasWaiters)
	return r
}

func watching(t *testing.T, paths ...string) *rig {
	t.Helper()
	r := newRig(t, trigger.Options{Paths: paths})
	r.strict = true
	return r.run()
}

// until waits for a condition without moving the clock.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	r.while(what, ok, func() {})
}

// passing waits for a condition while the fake time passes.
func (r *rig) passing(what string, ok func() bool) {
	r.t.Helper()
	r.while(what, ok, func() { r.clock.Step(debounce) })
}

func (r *rig) while(what string, ok func() bool, between func()) {
	r.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
			between()
		case <-deadline:
			r.t.Fatalf("not in %s: %s", patience, what)
		}
	}
}

// noticed waits until a change is pending: its quiet time is a second timer beside the poll's.
func (r *rig) noticed() {
	r.t.Helper()
	r.until("a change is noticed", func() bool { return r.clock.Waiters() == 2 })
}

// next gives the next report, letting time pass.
func (r *rig) next() (c trigger.Change) {
	r.t.Helper()
	r.passing("a report", func() bool {
		select {
		case c = <-r.changes:
			return true
		default:
			return false
		}
	})
	return c
}

// expect takes the next report, which must name exactly these files.
func (r *rig) expect(paths ...string) trigger.Change {
	r.t.Helper()
	c := r.next()
	slices.Sort(paths)
	if !slices.Equal(c.Paths, paths) {
		r.t.Fatalf("reported %q, want %q", c.Paths, paths)
	}
	for _, text := range r.w.Warnings() {
		if r.strict && strings.Contains(text, "polling") {
			r.t.Fatalf("inotify had no part in it: %s", text)
		}
	}
	if got := r.w.Hash(); got != c.Hash {
		r.t.Fatalf("Hash is %q after a report of %q", got, c.Hash)
	}
	return c
}

// quiet proves that nothing has been reported, nor will be, for what was done so far.
func (r *rig) quiet() {
	r.t.Helper()
	r.count++
	write(r.t, r.sentinel, fmt.Sprint(r.count))
	r.expect(r.sentinel)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+"~new", text)
	must(t, os.Rename(path+"~new", path))
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	must(t, os.MkdirAll(path, 0o755))
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
