package trigger

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxLinks is the kernel's own bound on the symlinks in one path.
const maxLinks = 40

// place is what matters in one directory.
type place struct {
	all      bool            // every name but the kubelet's own
	names    map[string]bool // these names
	required bool            // a second net otherwise: that it can't be watched does no harm
}

// places are the directories to watch, by their real paths. Only directories are: a watch on a file, or on ..data, ends
// with the inode that it was put on, so the second update would never be seen.
type places map[string]*place

// placesOf finds the places of all targets as the file system is now.
func placesOf(targets []string) places {
	p := places{}
	for _, target := range targets {
		if real, info, err := p.follow(target); err == nil && info.IsDir() {
			p.descend(real, 0)
		}
	}
	return p
}

// wants tells whether an event with that path can mean that content has changed.
func (p places) wants(path string) bool {
	if p[path] != nil {
		return true // the directory itself: removed, moved, or made again
	}
	at, name := p[filepath.Dir(path)], filepath.Base(path)
	if at == nil {
		return false
	}
	return at.names[name] || at.all && (name == current || !strings.HasPrefix(name, ".."))
}

// at is the place for dir, or nil for a directory that the kubelet has published: it is never written to, and a watch on
// it ends with the next update; ..data beside it tells everything.
func (p places) at(dir string) *place {
	if strings.Contains(dir, "/..") {
		return nil
	}
	if p[dir] == nil {
		p[dir] = &place{names: map[string]bool{}}
	}
	return p[dir]
}

// matter records that content may change with the entry name of dir.
func (p places) matter(dir, name string, required bool) {
	if at := p.at(dir); at != nil {
		at.names[name] = true
		at.required = at.required || required
	}
}

// descend records a directory and, unless the kubelet publishes it, those below it.
func (p places) descend(dir string, depth int) {
	at := p.at(dir)
	if at == nil || at.all || depth > maxDepth || len(p) > maxDirs {
		return
	}
	at.all, at.required = true, true
	if published(dir) {
		return
	}
	entries, err := list(whole(), dir)
	if err != nil {
		return // the read that follows says why
	}
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), ".."):
		case e.IsDir():
			p.descend(filepath.Join(dir, e.Name()), depth+1)
		case e.Type()&fs.ModeSymlink != 0:
			p.follow(filepath.Join(dir, e.Name()))
		}
	}
}

// follow resolves path as the kernel would. It records every directory in which a symlink of the chain stands, the one
// of the file itself, and the one in which the first missing name would appear.
func (p places) follow(path string) (string, fs.FileInfo, error) {
	dir, rest := "/", split(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(dir, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			p.matter(dir, name, true)
			return next, nil, err
		case info.IsDir():
			if len(rest) == 0 && name != ".." {
				p.matter(dir, name, false) // so that it is seen again when it is removed and made again
			}
			dir = next
		case info.Mode()&fs.ModeSymlink == 0:
			p.matter(dir, name, true)
			if len(rest) > 0 {
				return next, nil, errNotDir
			}
			return next, info, nil
		default:
			p.matter(dir, name, true)
			if links++; links > maxLinks {
				return next, nil, syscall.ELOOP
			}
			to, err := os.Readlink(next)
			if err != nil {
				return next, nil, err
			}
			if filepath.IsAbs(to) {
				dir = "/"
			}
			rest = append(split(to), rest...)
		}
	}
	info, err := os.Lstat(dir)
	return dir, info, err
}

// split gives the names in a path. It keeps "..", which means the parent of where a symlink has led to.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}
