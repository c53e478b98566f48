package trigger_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"holdfast/handoff/trigger"
)

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(entries)
}

func TestNothingIsLeftBehind(t *testing.T) {
	v := newVolume(t, map[string]string{"a": "1"})
	once := func(i int) {
		r := newRig(t, options(v.dir)).run()
		v.write(map[string]string{"a": fmt.Sprint(i)})
		r.expect(v.path("a"))
		r.stop()
	}
	once(0) // the runtime opens its own poller
	files, goroutines := descriptors(t), runtime.NumGoroutine()
	for i := range 5 {
		once(i + 1)
	}
	r := newRig(t, options(v.dir))
	if got := descriptors(t); got != files {
		t.Errorf("%d descriptors, were %d", got, files)
	}
	r.until("the goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// A directory whose grandparent is moved away makes no event, and its watch would stay with it for ever.
func TestWatchesDoNotPileUp(t *testing.T) {
	top := t.TempDir()
	file := filepath.Join(mkdir(t, filepath.Join(top, "a/b")), "f")
	write(t, file, "0")
	r := newRig(t, trigger.Options{Paths: []string{file}, Poll: 30 * time.Second}).run()
	watched := inotifyWatches(t)
	for i := range 5 {
		must(t, os.Rename(filepath.Join(top, "a"), filepath.Join(top, fmt.Sprint("old", i))))
		write(t, filepath.Join(mkdir(t, filepath.Join(top, "a/b")), "f"), fmt.Sprint(i+1))
		r.expect(file)
	}
	if got := inotifyWatches(t); got != watched {
		t.Errorf("%d watches, were %d", got, watched)
	}
}

func inotifyWatches(t *testing.T) int {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	must(t, err)
	count := 0
	for _, info := range infos {
		data, _ := os.ReadFile(info)
		count += strings.Count(string(data), "inotify wd:")
	}
	return count
}

// The end of a context must end a run whatever it is at.
func TestEndWhileAChangeIsPending(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "1")
	r := watching(t, file)
	write(t, file, "2")
	r.noticed()
	r.stop()
	if r.clock.HasWaiters() {
		t.Error("a timer is left")
	}
}

// fsnotify v1.10.1 waits on its error channel with its lock held when a watched directory is moved and then removed; on
// the real clock, with watches being moved about all the time, that must stop nobody.
func TestDirectoriesMovedAndRemoved(t *testing.T) {
	top := t.TempDir()
	outside := t.TempDir()
	w, err := trigger.New(trigger.Options{Paths: []string{top}, Debounce: time.Microsecond, Poll: time.Hour})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan trigger.Change, 1000), make(chan error)
	go func() {
		done <- w.Run(ctx, func(c trigger.Change) {
			select {
			case changes <- c:
			default:
			}
		})
	}()
	for i := range 1000 {
		inside := mkdir(t, filepath.Join(top, "d"))
		write(t, filepath.Join(inside, "f"), fmt.Sprint(i))
		if i%2 == 0 {
			runtime.Gosched()
		} else {
			mkdir(t, filepath.Join(inside, "sub"))
		}
		must(t, os.Rename(inside, filepath.Join(outside, "d")))
		must(t, os.RemoveAll(filepath.Join(outside, "d")))
	}
	last := filepath.Join(top, "last")
	write(t, last, "1")
	for deadline := time.After(patience); ; {
		select {
		case c := <-changes:
			if c.Paths[len(c.Paths)-1] != last {
				continue
			}
		case <-deadline:
			t.Error("the last change was not reported")
		}
		break
	}
	cancel()
	must(t, <-done)
}

func TestOnTheRealClock(t *testing.T) {
	v := newVolume(t, map[string]string{"a": "0"})
	w, err := trigger.New(trigger.Options{Paths: []string{v.dir}, Debounce: 5 * time.Millisecond, Jitter: time.Millisecond})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan trigger.Change, 100), make(chan error)
	go func() { done <- w.Run(ctx, func(c trigger.Change) { changes <- c }) }()
	for i := range 20 {
		v.write(map[string]string{"a": fmt.Sprint(i + 1)})
		select {
		case c := <-changes:
			if c.Hash != w.Read() {
				t.Errorf("reported %s, there is %s", c.Hash, w.Read())
			}
		case <-time.After(patience):
			t.Fatal("no report")
		}
	}
	cancel()
	must(t, <-done)
	if len(changes) > 0 {
		t.Errorf("one too many: %v", <-changes)
	}
}
