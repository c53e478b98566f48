package trigger

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// source is where events come from: fsnotify's watcher.
type source struct {
	add, remove func(dir string) error
	close       func() error
	events      <-chan fsnotify.Event
	errors      <-chan error
}

func openSource() (*source, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("open inotify: %w", err)
	}
	return &source{add: n.Add, remove: n.Remove, close: n.Close, events: n.Events, errors: n.Errors}, nil
}

// inode tells a directory from the one that stood in its place before.
type inode struct{ dev, ino uint64 }

// watches keeps a source looking at the places that matter, as well as the system allows.
type watches struct {
	open    func() (*source, error)
	alone   time.Duration // the poll's period without inotify, and the least time between two tries to get it
	source  *source       // nil: there is none
	retryAt time.Time
	places  places
	have    map[string]inode
	lack    string            // why there is no source
	trouble map[string]string // by its kind, so that a large tree on NFS gives one line: what keeps events from coming
}

// sync makes the watches those of want. It is true where a change can have gone unnoticed: a watch is new, or missing.
// What is watched already is added again, which costs nothing, and mends a watch that the kernel has dropped.
func (w *watches) sync(want places, now time.Time) bool {
	w.places, w.trouble = want, map[string]string{}
	if !w.ensure(now) {
		return true
	}
	fresh := false
	lost := w.source.guarded(func() {
		w.removeStale()
		fresh = w.addAll()
	})
	for _, err := range lost {
		w.failed(err, now)
	}
	return fresh || len(lost) > 0 || !w.covered()
}

// covered tells whether every change makes an event.
func (w *watches) covered() bool { return w.source != nil && len(w.trouble) == 0 }

func (w *watches) ensure(now time.Time) bool {
	if w.source != nil {
		return true
	}
	if !now.Before(w.retryAt) {
		source, err := w.open()
		if err == nil {
			w.source, w.have = source, map[string]inode{}
			return true
		}
		w.retryAt = now.Add(w.alone)
		w.lack = reason(err)
	}
	w.trouble["source"] = w.lack
	return false
}

func (w *watches) removeStale() {
	for dir, id := range w.have {
		if now, ok := identify(dir); w.places[dir] == nil || !ok || now != id {
			_ = w.source.remove(dir) // often gone already, with its inode
			delete(w.have, dir)
		}
	}
}

// addAll is true if a place is watched that was not before.
func (w *watches) addAll() bool {
	fresh := false
	shared := map[inode]*place{}
	for _, dir := range slices.Sorted(maps.Keys(w.places)) {
		id, _ := identify(dir)
		if err := w.source.add(dir); err != nil {
			w.refused(dir, err)
			continue
		}
		w.unify(shared, dir, id)
		w.distrust(dir)
		fresh = fresh || w.have[dir] != id
		w.have[dir] = id
	}
	return fresh
}

// unify lets all paths of one directory (bind mounts) want the same, because a watch belongs to the inode and its events
// carry the path that was added first.
func (w *watches) unify(shared map[inode]*place, dir string, id inode) {
	first, here := shared[id], w.places[dir]
	if first == nil {
		shared[id] = here
		return
	}
	first.all = first.all || here.all
	first.required = first.required || here.required
	maps.Copy(first.names, here.names)
	w.places[dir] = first
}

func (w *watches) refused(dir string, err error) {
	switch {
	case !w.places[dir].required:
	case errors.Is(err, syscall.ENOSPC):
		w.trouble["space"] = "inotify has no watches left"
	default:
		w.trouble["add"] = fmt.Sprintf("inotify can't watch %s (%v)", dir, bare(err))
	}
}

// distrust notes the file systems whose content is changed by others, of which inotify hears nothing.
func (w *watches) distrust(dir string) {
	if kind := remoteKind(dir); kind != "" && w.places[dir].required && w.trouble["remote"] == "" {
		w.trouble["remote"] = fmt.Sprintf("%s is on %s, where inotify hears nothing of changes made elsewhere", dir, kind)
	}
}

// failed is told what came on the error channel.
func (w *watches) failed(err error, now time.Time) {
	if err == nil || errors.Is(err, fsnotify.ErrEventOverflow) || errors.Is(err, syscall.EINVAL) {
		return // EINVAL: a directory was moved and then removed before fsnotify could let go of it
	}
	w.close()
	w.lack = reason(err)
	w.retryAt = now.Add(w.alone)
}

// channels are nil, and so never ready, without a source.
func (w *watches) channels() (<-chan fsnotify.Event, <-chan error) {
	if w.source == nil {
		return nil, nil
	}
	return w.source.events, w.source.errors
}

func (w *watches) warnings() []string {
	var texts []string
	for _, text := range w.trouble {
		texts = append(texts, fmt.Sprintf("%s: polling every %s", text, w.alone))
	}
	return texts
}

func (w *watches) close() {
	if w.source != nil {
		w.source.guarded(func() { _ = w.source.close() })
		w.source = nil
	}
}

// guarded calls into fsnotify while taking its errors off its hands, and gives them back. fsnotify sends an error while
// it holds the lock that each of its methods needs (v1.10.1, inotify.handleEvent, for a directory that was moved and then
// removed): a caller who is also the receiver would wait for itself, for ever.
func (s *source) guarded(call func()) (lost []error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		call()
	}()
	incoming := s.errors
	for {
		select {
		case <-done:
			return lost
		case err, ok := <-incoming:
			if !ok {
				incoming = nil
				continue
			}
			lost = append(lost, err)
		}
	}
}

func reason(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "inotify has no instances left"
	default:
		return fmt.Sprintf("inotify is not to be had (%v)", err)
	}
}

func identify(dir string) (inode, bool) {
	info, err := os.Lstat(dir)
	if err != nil {
		return inode{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, false
	}
	return inode{dev: uint64(st.Dev), ino: st.Ino}, true
}
