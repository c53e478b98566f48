// Package trigger says when the content of watched paths has changed.
//
// Its invariant: what it reports is a difference between contents that it has read, never an event. An event (inotify)
// only makes the next read come sooner, and a slow poll is always behind it; so an event that is lost, doubled or
// misleading costs time and nothing else.
//
// From that follows what it stays silent about: a touch, a chmod, a re-mount, the same bytes written again, a file that
// has gone (a server that runs must not be restarted into missing configuration), and one that comes back as it was.
package trigger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

const (
	defaultPoll      = 30 * time.Second
	defaultPollAlone = 2 * time.Second

	// hashLength is what a person can still compare by eye; 64 bits are plenty to tell a fleet's configurations apart.
	hashLength = 16

	// maxNamed bounds Change.Paths: it goes into a log line.
	maxNamed = 10
)

// Options say what to watch. One of Paths and Triggers must not be empty.
type Options struct {
	// Paths are files or directories. One that does not exist yet may appear, and its parents too. In a directory
	// everything counts but names that start with ".." (the kubelet's own) and symlinks to other directories: those
	// are to be named themselves.
	Paths []string

	// Triggers are watched as Paths are, but are no configuration: a file whose change asks for something, such as the
	// pod's annotations. Their content is in no Hash, since it differs from pod to pod.
	Triggers []string

	// Debounce is the quiet time before a change is reported. Further changes restart it, up to ten times its
	// length, or ten seconds if that is longer. 0: report at once.
	Debounce time.Duration

	// Jitter is the bound of a random delay after the quiet time, so that a fleet does not move at once. 0: none.
	Jitter time.Duration

	// Poll is the period of the poll behind inotify; 0: 30 s.
	Poll time.Duration

	// PollAlone is its period while inotify can't be relied upon; 0: 2 s.
	PollAlone time.Duration

	Clock  clock.WithTicker                  // nil: the real one
	Log    *slog.Logger                      // nil: no log
	Random func(time.Duration) time.Duration // a duration in [0, its argument), which is positive; nil: a real random source
}

// Change is a difference between what is there and what was reported last (or was there at New).
type Change struct {
	Hash  string   // of everything that is there, as Watcher.Hash gives it
	Paths []string // the files that are new or have new content, sorted, the first ten
	Asked bool     // one of Triggers is among them
}

// Watcher watches the paths of its Options. Its methods may be called from any goroutine.
type Watcher struct {
	options    Options
	targets    []string
	named      map[string]bool
	triggers   map[string]error // no configuration, with all that is below; for under
	open       func() (*source, error)
	conditions conditions
	running    atomic.Bool

	reported content // what New found, then what was reported last, and whatever vanished since; owned by Run

	busy atomic.Bool // a ReadWithin has not come to its end

	mu    sync.Mutex
	last  content // as last read
	hash  string  // of last
	begun uint64  // readings so far
	kept  uint64  // the one that last is of: one that began earlier and took longer does not replace it
}

// New validates the options and reads what is there; that content will not be reported.
func New(o Options) (*Watcher, error) {
	o.setDefaults()
	if min(o.Debounce, o.Jitter, o.Poll, o.PollAlone) < 0 {
		return nil, errors.New("watch: a time is negative")
	}
	w := &Watcher{options: o, named: map[string]bool{}, triggers: map[string]error{}, open: openSource, conditions: conditions{log: o.Log}}
	for i, path := range slices.Concat(o.Paths, o.Triggers) {
		target, err := usable(path)
		if err != nil {
			return nil, err
		}
		if i >= len(o.Paths) {
			w.triggers[target] = nil
		}
		if !w.named[target] {
			w.named[target] = true
			w.targets = append(w.targets, target)
		}
	}
	if len(w.targets) == 0 {
		return nil, errors.New("watch: no path is given")
	}
	w.conditions.set("mount", mountWarnings(w.targets))
	w.reported = w.adopt(w.scan(context.Background()))
	return w, nil
}

func (o *Options) setDefaults() {
	if o.Poll == 0 {
		o.Poll = defaultPoll
	}
	if o.PollAlone == 0 {
		o.PollAlone = defaultPollAlone
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Random == nil {
		o.Random = rand.N[time.Duration]
	}
}

// usable gives the absolute form of a path that can be watched. That it does not exist, or can't be looked at now, is
// no error: it may change.
func usable(path string) (string, error) {
	if path == "" || strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("watch %q: not a path", path)
	}
	target, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("watch %s: %w", path, err)
	}
	if target == "/" {
		return "", errors.New("watch /: that is the whole file system; name what matters in it")
	}
	if info, err := os.Stat(target); err == nil && !info.IsDir() && !info.Mode().IsRegular() {
		return "", fmt.Errorf("watch %s: neither a file nor a directory (%s)", path, kindOf(info.Mode()))
	}
	return target, nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "a fifo"
	case m&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// Hash is a short hash of the watched content as it was last read; "" while there is none. It depends on nothing but the
// files' names and bytes, so it is the same in every pod with the same content. It waits for nothing.
func (w *Watcher) Hash() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hash
}

// Read reads everything again and gives the hash of what is there at this instant, for a generation to remember what it
// started from. What Run reports is not touched by it.
func (w *Watcher) Read() string {
	w.remember(w.scan(context.Background()))
	return w.Hash()
}

// ReadWithin is Read for who cannot wait: where that takes longer than d, it gives what was read last. However often it
// is called, a dead file system has one goroutine waiting for it.
func (w *Watcher) ReadWithin(d time.Duration) string {
	if !w.busy.CompareAndSwap(false, true) {
		return w.Hash()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer w.busy.Store(false) // before it is done, or the next call would not read
		w.Read()
	}()
	late := w.options.Clock.NewTimer(d)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C():
	}
	return w.Hash()
}

// Warnings are the conditions that last, each a sentence; the log has had each of them once.
func (w *Watcher) Warnings() []string { return w.conditions.list() }

// adopt is what New and Run do with a reading: the warnings follow from it too.
func (w *Watcher) adopt(found reading) content {
	w.conditions.set("read", found.warnings())
	return w.remember(found)
}

// hashOf is the hash of what is configuration in c.
func (w *Watcher) hashOf(c content) string {
	if len(w.triggers) == 0 {
		return c.hash()
	}
	configuration := maps.Clone(c)
	maps.DeleteFunc(configuration, func(name string, _ digest) bool { return under(name, w.triggers) })
	return configuration.hash()
}

// remember keeps what could not be read as it was known.
func (w *Watcher) remember(found reading) content {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := found.content.keep(w.last, found.failed)
	if found.number > w.kept {
		w.last, w.hash, w.kept = c, w.hashOf(c), found.number
	}
	return c
}

func (w *Watcher) scan(ctx context.Context) reading {
	r := newReader(ctx, w.named)
	w.mu.Lock()
	w.begun++
	r.number = w.begun
	w.mu.Unlock()
	for _, target := range slices.Sorted(slices.Values(w.targets)) {
		r.target(target)
	}
	return r.reading
}
