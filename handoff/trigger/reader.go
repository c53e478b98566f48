package trigger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxDepth, maxDirs and maxFiles keep a watch on a large tree from costing the container its CPU limit.
	maxDepth = 16
	maxDirs  = 1024
	maxFiles = 10000

	// maxTries bounds how often a read starts over because something was replaced under it. Two updates of one volume
	// are at least a second apart in practice, so a second try is nearly always enough.
	maxTries = 8

	// current is the kubelet's symlink to the directory with the published files; it is replaced by rename, which is
	// the one atomic step of an update (pkg/volume/util/atomic_writer.go).
	current = "..data"
)

var errReplaced = errors.New("it is replaced faster than it can be read")

// reading is what one look at all targets has found.
type reading struct {
	number  uint64 // of the readings, in the order in which they began
	content content
	failed  map[string]error // what is there and can't be read: files, or directories with all that is in them
	missing []string         // targets that are not there
	cut     bool             // a bound was reached
}

func (r reading) warnings() []string {
	var texts []string
	for path, err := range r.failed {
		texts = append(texts, fmt.Sprintf("%s can't be read, its last known content stands: %v", path, bare(err)))
	}
	for _, path := range r.missing {
		texts = append(texts, path+" does not exist")
	}
	if r.cut {
		texts = append(texts, fmt.Sprintf("more than %d files, %d directories or %d levels: the rest is not watched",
			maxFiles, maxDirs, maxDepth))
	}
	return texts
}

// bare is the cause without the operation and the path, which may be one inside a volume's timestamped directory: the
// same trouble must give the same text each time.
func bare(err error) error {
	var wrapped *fs.PathError
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// gone tells whether err says that something is not there (any more); ENOTDIR: a parent has become a file.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir)
}

// tree is what files are read from: the whole file system, or one open directory (os.Root) that keeps showing the same
// files while the kubelet puts another in its place.
type tree struct {
	open func(name string, flag int, perm fs.FileMode) (*os.File, error)
	stat func(name string) (fs.FileInfo, error)
}

func whole() tree { return tree{open: os.OpenFile, stat: os.Stat} }

// reader gathers one reading.
type reader struct {
	reading
	ctx   context.Context // of this one reading
	named map[string]bool
	dirs  int
	lost  bool // something that was listed was not there
}

func newReader(ctx context.Context, named map[string]bool) *reader {
	return &reader{
		ctx:     ctx,
		named:   named,
		reading: reading{content: content{}, failed: map[string]error{}},
	}
}

// target reads one of the watched paths, starting over where a symlink on the way to it was moved meanwhile.
func (r *reader) target(path string) {
	for range maxTries {
		r.lost = false
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			r.directory(path, 0)
			return
		case err == nil:
			if r.file(whole(), path, path); !r.lost {
				return
			}
		case !gone(err):
			r.failed[path] = err
			return
		case !dangling(path):
			r.missing = append(r.missing, path)
			return
		}
	}
	r.missing = append(r.missing, path)
}

// dangling tells whether a path that leads nowhere has its own name in place still.
func dangling(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// directory reads a plain directory, or one whose files the kubelet publishes.
func (r *reader) directory(path string, depth int) {
	for range maxTries {
		if !published(path) {
			r.walk(whole(), path, path, depth)
			return
		}
		if r.volume(path, depth) {
			return
		}
	}
	r.failed[path] = errReplaced
}

func published(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, current))
	return err == nil
}

// volume reads what the kubelet has published in dir through one descriptor, so that all files are of the same update.
// It is false if another update came in between: the old directory is being removed then, and what was listed of it
// may be only a part.
func (r *reader) volume(dir string, depth int) bool {
	root, err := os.OpenRoot(filepath.Join(dir, current))
	if err != nil {
		if !gone(err) {
			r.failed[dir] = err
		}
		return !gone(err)
	}
	defer root.Close()

	part := newReader(r.ctx, r.named)
	part.dirs = r.dirs
	part.walk(tree{open: root.OpenFile, stat: root.Stat}, ".", dir, depth)
	if part.lost || !stillCurrent(root, dir) {
		return false
	}
	r.take(part)
	return true
}

func stillCurrent(root *os.Root, dir string) bool {
	read, err := root.Stat(".")
	if err != nil {
		return false
	}
	now, err := os.Stat(filepath.Join(dir, current))
	return err == nil && os.SameFile(read, now)
}

func (r *reader) take(part *reader) {
	maps.Copy(r.content, part.content)
	maps.Copy(r.failed, part.failed)
	r.cut = r.cut || part.cut
	r.dirs = part.dirs
}

// walk reads the directory that t has under name; path is what the user knows it by.
func (r *reader) walk(t tree, name, path string, depth int) {
	if r.dirs++; depth > maxDepth || r.dirs > maxDirs {
		r.cut = true
		return
	}
	entries, err := list(t, name)
	if err != nil {
		r.note(path, err)
		return
	}
	for _, e := range entries {
		if r.ctx.Err() != nil {
			return
		}
		r.entry(t, e, filepath.Join(name, e.Name()), filepath.Join(path, e.Name()), depth)
	}
}

func (r *reader) entry(t tree, e fs.DirEntry, name, path string, depth int) {
	switch {
	case strings.HasPrefix(e.Name(), ".."): // the kubelet's own
	case !e.IsDir():
		r.file(t, name, path)
	case name == path: // in the whole file system, where a volume may be mounted below a plain directory
		r.directory(path, depth+1)
	default:
		r.walk(t, name, path, depth+1)
	}
}

func list(t tree, name string) ([]fs.DirEntry, error) {
	d, err := t.open(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

func (r *reader) file(t tree, name, path string) {
	if len(r.content) >= maxFiles {
		r.cut = true
		return
	}
	sum, ok, err := readFile(r.ctx, t, name, r.named[path])
	switch {
	case err != nil:
		r.note(path, err)
	case ok:
		r.content[path] = sum
	}
}

func (r *reader) note(path string, err error) {
	if gone(err) {
		r.lost = true
		return
	}
	r.failed[path] = err
}
