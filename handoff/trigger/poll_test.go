package trigger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/handoff/trigger"

	"github.com/fsnotify/fsnotify"
)

func options(paths ...string) trigger.Options { return trigger.Options{Paths: paths} }

func TestPollingWithoutInotify(t *testing.T) {
	v := newVolume(t, map[string]string{"a": "0"})
	r := newRig(t, options(v.dir))
	var exhausted atomic.Bool
	var tries atomic.Int64
	exhausted.Store(true)
	r.w.GateOpen(func() error {
		tries.Add(1)
		if exhausted.Load() {
			return fmt.Errorf("open inotify: %w", syscall.EMFILE)
		}
		return nil
	})
	start := r.clock.Now()
	r.run()
	if got, want := fmt.Sprint(r.w.Warnings()), "[inotify has no instances left: polling every 2s]"; got != want {
		t.Errorf("warnings %s, want %s", got, want)
	}
	for i := range 5 {
		v.write(map[string]string{"a": fmt.Sprint(i + 1)})
		r.expect(v.path("a"))
	}
	v.write(map[string]string{"a": "A"})
	v.write(map[string]string{"a": "5"})
	r.quiet()
	if most := 2 + int64(r.clock.Since(start)/(2*time.Second)); tries.Load() > most {
		t.Errorf("%d tries in %s", tries.Load(), r.clock.Since(start))
	}

	exhausted.Store(false)
	r.passing("inotify is back", func() bool { return len(r.w.Warnings()) == 0 })
	v.write(map[string]string{"a": "6"})
	r.noticed() // without time passing
	r.expect(v.path("a"))
}

// Without events nothing says that a file is still being written, but that the next read finds something else again.
func TestPollingWaitsForTwoReadsAlike(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := newRig(t, options(file))
	r.w.GateOpen(func() error { return syscall.EMFILE })
	r.run()
	write(t, file, "half")
	r.clock.Step(2 * time.Second)
	r.noticed()
	write(t, file, "whole")
	r.clock.Step(debounce)
	r.until("it waits again", func() bool {
		select {
		case <-r.changes:
			t.Fatal("reported while it was being written")
		default:
		}
		return r.clock.Waiters() == 2
	})
	r.expect(file)
	r.quiet()
}

func TestPollBehindInotify(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := newRig(t, trigger.Options{Paths: []string{file}, Poll: 30 * time.Second})
	r.w.OpenWith(func() (*trigger.Source, error) { // hears nothing
		return &trigger.Source{Add: func(string) error { return nil }}, nil
	})
	r.run()
	start := r.clock.Now()
	write(t, file, "2")
	r.expect(file)
	if took := r.clock.Since(start); took < 30*time.Second {
		t.Errorf("reported after %s", took)
	}
}

func TestWatchesExhausted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := newRig(t, options(file))
	r.w.OpenWith(func() (*trigger.Source, error) {
		return &trigger.Source{Add: func(string) error { return syscall.ENOSPC }}, nil
	})
	r.run()
	if got, want := fmt.Sprint(r.w.Warnings()), "[inotify has no watches left: polling every 2s]"; got != want {
		t.Errorf("warnings %s, want %s", got, want)
	}
	write(t, file, "2")
	r.expect(file)
	r.quiet()
}

func TestOverflowIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := newRig(t, options(file))
	errs := make(chan error)
	r.w.OpenWith(func() (*trigger.Source, error) {
		return &trigger.Source{Add: func(string) error { return nil }, Errors: errs}, nil
	})
	r.run()
	write(t, file, "2")
	errs <- fsnotify.ErrEventOverflow
	r.expect(file)
}

func TestBrokenSourceIsReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := newRig(t, options(file))
	errs := make(chan error)
	var opened, closed atomic.Int64
	r.w.OpenWith(func() (*trigger.Source, error) {
		opened.Add(1)
		return &trigger.Source{Add: func(string) error { return nil }, Errors: errs, Closed: func() { closed.Add(1) }}, nil
	})
	r.run()
	write(t, file, "2")
	errs <- syscall.EIO
	r.expect(file)
	r.passing("another source", func() bool { return opened.Load() == 2 && len(r.w.Warnings()) == 0 })
	r.stop()
	if closed.Load() != 2 {
		t.Errorf("%d of 2 sources closed", closed.Load())
	}
}

func TestEndlessEventsDoNotReadEndlessly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := newRig(t, options(file))
	events := make(chan fsnotify.Event)
	var looks atomic.Int64
	r.w.OpenWith(func() (*trigger.Source, error) {
		return &trigger.Source{Events: events, Add: func(dir string) error {
			if dir == filepath.Dir(file) {
				looks.Add(1)
			}
			return nil
		}}, nil
	})
	r.run()
	write(t, file, "2")
	touch := fsnotify.Event{Name: file, Op: fsnotify.Write}
	start := r.clock.Now()
	for done := false; !done; {
		select {
		case events <- touch:
			r.clock.Step(100 * time.Millisecond)
		case <-r.changes:
			done = true
		case <-time.After(patience):
			t.Fatal("no report")
		}
	}
	if took := r.clock.Since(start); took < 10*time.Second || took > 12*time.Second {
		t.Errorf("reported after %s, want the cap of 10s", took)
	}
	if looks.Load() > 3 {
		t.Errorf("%d reads for one change", looks.Load())
	}
}

func TestJitter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	var bound atomic.Int64
	r := newRig(t, trigger.Options{
		Paths:  []string{file},
		Jitter: time.Minute,
		Random: func(d time.Duration) time.Duration {
			bound.Store(int64(d))
			return 42 * time.Second
		},
	}).run()
	start := r.clock.Now()
	write(t, file, "2")
	r.noticed()
	r.expect(file)
	if took := r.clock.Since(start); took < 43*time.Second {
		t.Errorf("reported after %s", took)
	}
	if time.Duration(bound.Load()) != time.Minute {
		t.Errorf("drawn below %s", time.Duration(bound.Load()))
	}
}

func TestNewRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		o    trigger.Options
		want string
	}{
		"nothing":  {options(), "watch: no path is given"},
		"empty":    {options("a", ""), `watch "": not a path`},
		"nul":      {options("a\x00b"), `watch "a\x00b": not a path`},
		"root":     {options("/"), "watch /: that is the whole file system; name what matters in it"},
		"device":   {options("/dev/null"), "watch /dev/null: neither a file nor a directory (a device)"},
		"negative": {trigger.Options{Paths: []string{"a"}, Jitter: -1}, "watch: a time is negative"},
	} {
		t.Run(name, func(t *testing.T) {
			if w, err := trigger.New(tc.o); err == nil || err.Error() != tc.want || w != nil {
				t.Errorf("got %v, %v; want %s", w, err, tc.want)
			}
		})
	}
}

func TestRunTwice(t *testing.T) {
	r := watching(t, t.TempDir())
	if err := r.w.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("got %v", err)
	}
}

func TestHashOfNothing(t *testing.T) {
	w, err := trigger.New(options(filepath.Join(t.TempDir(), "later")))
	must(t, err)
	if w.Hash() != "" || w.Read() != "" {
		t.Errorf("got %q, %q", w.Hash(), w.Read())
	}
}

func TestRelativeAndDoubledPaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "a", "1")
	r := watching(t, "a", "./a", filepath.Join(dir, "a"))
	write(t, "a", "2")
	r.expect(filepath.Join(dir, "a"))
	must(t, os.Remove("a"))
	r.quiet()
}
